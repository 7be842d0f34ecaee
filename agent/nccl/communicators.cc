#include "agent/nccl/communicators.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "agent/collective/call_header.h"
#include "agent/nccl/join_card.h"
#include "agent/nccl/member_exchange.h"
#include "common/convert_limits.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// How many that failed are told of, and how long.
constexpr size_t kMaxFailedKept = 16;
constexpr absl::Duration kFailedKept = absl::Minutes(10);

CommunicatorState StateOf(Communicator::State state) {
  switch (state) {
    case Communicator::State::kConnecting:
      return CommunicatorState::kConnecting;
    case Communicator::State::kReady:
      return CommunicatorState::kReady;
    case Communicator::State::kEnding:
      return CommunicatorState::kEnding;
    case Communicator::State::kEnded:
      return CommunicatorState::kEnded;
  }
  return CommunicatorState::kUnspecified;
}

CommunicatorReport MakeReport(const Communicator& communicator) {
  CommunicatorReport out;
  out.name = communicator.members().name;
  out.members = static_cast<int64_t>(communicator.members().peers.size());
  out.state = StateOf(communicator.state());
  if (out.state >= CommunicatorState::kEnding) {
    out.error = communicator.status().ToString();
  }
  return out;
}

bool Has(const CollectiveMembers& members, Rank rank, Incarnation incarnation) {
  return std::any_of(
      members.peers.begin(), members.peers.end(), [&](const Peer& peer) {
        return peer.rank == rank && peer.incarnation == incarnation;
      });
}

}  // namespace

absl::Status CommunicatorOptions::Validate() const {
  for (const absl::Duration duration :
       {connect_timeout, finalize_timeout, call_grace, abort_timeout,
        reason_wait, poll_interval}) {
    if (duration <= absl::ZeroDuration()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "expected times above 0, found ", absl::FormatDuration(duration)));
    }
  }
  if (max_sms >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("expected max_sms of at least 0, found ", max_sms));
}

absl::StatusOr<std::unique_ptr<Communicators>> Communicators::Create(
    CommunicatorDeps deps, CommunicatorOptions options) {
  SLUICE_RETURN_IF_ERROR(options.Validate());
  return std::unique_ptr<Communicators>(
      new Communicators(std::move(deps), std::move(options)));
}

Communicators::Communicators(CommunicatorDeps deps, CommunicatorOptions options)
    : deps_(std::move(deps)),
      options_(std::move(options)),
      watchdog_([this] { Watch(); }) {}

Communicators::~Communicators() {
  std::vector<Shared> all;
  {
    MutexLock lock(mutex_);
    declared_.clear();
    all = communicators_;
  }
  End(all, absl::CancelledError("the agent's communicators are closed"),
      /*graceful=*/false);
  {
    MutexLock lock(mutex_);
    const auto closing = [](const Shared& communicator) {
      return communicator->state() != Communicator::State::kEnded &&
             !communicator->Overdue();
    };
    while (std::any_of(communicators_.begin(), communicators_.end(), closing)) {
      changed_.WaitFor(mutex_, options_.poll_interval);
    }
    stopping_ = true;
    changed_.SignalAll();
  }
  watchdog_.join();
}

absl::Status Communicators::Declare(const CollectiveMembers& members) {
  const int count = static_cast<int>(members.peers.size());
  if (members.self < 0 || members.self >= count) {
    return absl::InvalidArgumentError(absl::StrCat(
        "group ", members.name, ": expected this member from 0 to ", count - 1,
        ", found ", members.self));
  }
  MutexLock lock(mutex_);
  for (int m = 0; m < count; ++m) {
    const Peer& peer = members.peers[m];
    if (retired_.contains({peer.rank, peer.incarnation})) {
      return absl::AbortedError(
          absl::StrCat("group ", members.name, ": ", MemberName(members, m),
                       " was lost: name its new incarnation"));
    }
  }
  declared_[members.Id()] = members;
  return absl::OkStatus();
}

absl::StatusOr<Communicators::Shared> Communicators::Find(uint64_t id) {
  MutexLock lock(mutex_);
  const auto declared = declared_.find(id);
  if (declared == declared_.end()) {
    return absl::NotFoundError(
        absl::StrCat("group ", absl::Hex(id), " is not declared"));
  }
  for (const Shared& communicator : communicators_) {
    if (communicator->members().Id() == id &&
        communicator->state() < Communicator::State::kEnding) {
      return communicator;
    }
  }
  communicators_.push_back(std::make_shared<Communicator>(
      declared->second, deps_.library, deps_.device, deps_.clock,
      options_.reason_wait));
  return communicators_.back();
}

absl::Status Communicators::Connect(const Shared& communicator,
                                    absl::Duration timeout,
                                    Communicator::Use use) {
  if (!communicator->Claim()) {
    // Another thread makes it, under its own deadline.
    return communicator->Await(
        [&] { return communicator->state() == Communicator::State::kReady; },
        absl::InfiniteFuture(), "its making");
  }
  const absl::Duration allowed = std::min(timeout, options_.connect_timeout);
  const absl::Status connected =
      ConnectMembers(communicator, use, deps_.clock.Now() + allowed);
  if (connected.ok()) {
    LogInfo("NCCL communicator made",
            {{"group", communicator->members().name},
             {"members", communicator->members().peers.size()}});
    return absl::OkStatus();
  }
  Abort(communicator, connected);
  communicator->AwaitEnded();
  return communicator->status();
}

// 1. Join those who belong to it; from then on a failure of one ends it on all.
// 2. Exchange cards: what NCCL would not take.
// 3. Exchange the unique id, once nothing of ours is in the way: until all have
//    come to it, it keeps a thread and a socket of member 0.
// 4. Make NCCL's communicator and run something small on it.
// 5. Exchange that all have.
absl::Status Communicators::ConnectMembers(const Shared& communicator,
                                           Communicator::Use use,
                                           absl::Time deadline) {
  const std::weak_ptr<Communicator> weak = communicator;
  {
    SLUICE_ASSIGN_OR_RETURN(
        const std::shared_ptr<GroupControl> control,
        deps_.controls.Join(communicator->members(),
                            [this, weak](absl::Status reason) {
                              const Shared failed = weak.lock();
                              if (failed != nullptr) Abort(failed, reason);
                            }));
    if (!communicator->SetControl(control)) {
      control->Fail(communicator->status());
      control->Leave();
      return communicator->status();
    }
  }
  SLUICE_RETURN_IF_ERROR(CompareCards(communicator, deadline));
  SLUICE_RETURN_IF_ERROR(communicator->MakeStream());
  SLUICE_ASSIGN_OR_RETURN(const NcclUniqueId id,
                          ExchangeId(communicator, deadline));
  NcclConfig config;
  config.blocking = 0;
  if (options_.max_sms > 0) config.max_ctas = options_.max_sms;
  SLUICE_RETURN_IF_ERROR(communicator->Init(id, config, deadline));
  SLUICE_RETURN_IF_ERROR(communicator->WarmUp(use, deadline));
  SLUICE_RETURN_IF_ERROR(
      ExchangeWithMembers(communicator, "warm", deadline).status());
  if (!communicator->SetReady()) return communicator->status();
  return absl::OkStatus();
}

absl::Status Communicators::CompareCards(const Shared& communicator,
                                         absl::Time deadline) {
  JoinCard own;
  own.version = deps_.library->version();
  own.bus_id = deps_.device.BusId();
  if (const char* host = std::getenv("NCCL_HOSTID"); host != nullptr) {
    own.host_id = host;
  }
  const char* const shares = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
  own.shares_device = shares != nullptr && std::atoi(shares) != 0;
  SLUICE_ASSIGN_OR_RETURN(
      const std::vector<std::string> all,
      ExchangeWithMembers(communicator, own.Encode(), deadline));
  std::vector<JoinCard> cards;
  for (const std::string& bytes : all) {
    SLUICE_ASSIGN_OR_RETURN(JoinCard card, JoinCard::Decode(bytes));
    cards.push_back(std::move(card));
  }
  return CheckCards(communicator->members(), cards);
}

absl::StatusOr<NcclUniqueId> Communicators::ExchangeId(
    const Shared& communicator, absl::Time deadline) {
  std::string own;
  if (communicator->members().self == 0) {
    NcclUniqueId made = {};
    SLUICE_RETURN_IF_ERROR(deps_.device.Use());
    SLUICE_RETURN_IF_ERROR(deps_.library->Check(
        deps_.library->api().GetUniqueId(&made), "ncclGetUniqueId"));
    own.assign(made.internal, sizeof made.internal);
  }
  SLUICE_ASSIGN_OR_RETURN(
      const std::vector<std::string> all,
      ExchangeWithMembers(communicator, std::move(own), deadline));
  NcclUniqueId id;
  if (all[0].size() != sizeof id.internal) {
    return absl::InternalError(absl::StrCat(
        "expected a unique id of ", sizeof id.internal, " bytes from ",
        MemberName(communicator->members(), 0), ", found ", all[0].size()));
  }
  std::memcpy(id.internal, all[0].data(), sizeof id.internal);
  return id;
}

void Communicators::Drop(uint64_t id) {
  std::vector<Shared> dropped;
  {
    MutexLock lock(mutex_);
    declared_.erase(id);
    for (const Shared& communicator : communicators_) {
      if (communicator->members().Id() == id) dropped.push_back(communicator);
    }
  }
  for (const Shared& communicator : dropped) {
    const bool ready = communicator->state() == Communicator::State::kReady;
    End({communicator}, absl::CancelledError("the group was dropped"),
        /*graceful=*/ready);
  }
}

void Communicators::Withdraw(const Shared& communicator) {
  const uint64_t id = communicator->members().Id();
  MutexLock lock(mutex_);
  for (const Shared& other : communicators_) {
    if (other != communicator && other->members().Id() == id &&
        other->state() < Communicator::State::kEnding) {
      return;
    }
  }
  declared_.erase(id);
}

void Communicators::Abort(const Shared& communicator,
                          const absl::Status& reason) {
  End({communicator}, reason, /*graceful=*/false);
}

void Communicators::Retire(Rank rank, Incarnation incarnation,
                           const absl::Status& reason) {
  std::vector<Shared> affected;
  {
    MutexLock lock(mutex_);
    retired_.insert({rank, incarnation});
    absl::erase_if(declared_, [&](const auto& entry) {
      return Has(entry.second, rank, incarnation);
    });
    for (const Shared& communicator : communicators_) {
      if (Has(communicator->members(), rank, incarnation)) {
        affected.push_back(communicator);
      }
    }
  }
  End(affected, reason, /*graceful=*/false);
}

void Communicators::Admit(Rank rank, Incarnation incarnation) {
  MutexLock lock(mutex_);
  retired_.erase({rank, incarnation});
}

void Communicators::AbortAll(const absl::Status& reason) {
  std::vector<Shared> all;
  {
    MutexLock lock(mutex_);
    all = communicators_;
  }
  End(all, reason, /*graceful=*/false);
}

void Communicators::End(const std::vector<Shared>& communicators,
                        const absl::Status& reason, bool graceful) {
  absl::Duration allowed = options_.call_grace + options_.abort_timeout;
  if (graceful) allowed += options_.finalize_timeout;
  std::vector<Shared> marked;
  for (const Shared& communicator : communicators) {
    if (communicator->Mark(reason, allowed)) marked.push_back(communicator);
  }
  for (const Shared& communicator : marked) {
    if (!graceful) {
      LogWarn("NCCL communicator aborted",
              {{"group", communicator->members().name},
               {"reason", reason.ToString()}});
      const std::shared_ptr<GroupControl> control = communicator->control();
      if (control != nullptr) control->Fail(reason);
    }
    // Detached: one that hangs must not keep anybody from ending the process.
    // Nothing of ours but the communicator and what outlives it is touched.
    std::thread([communicator, graceful, options = options_] {
      communicator->Close(graceful, options.call_grace,
                          options.finalize_timeout);
    }).detach();
  }
}

void Communicators::Watch() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    mutex_.Unlock();
    Look();
    mutex_.Lock();
    if (!stopping_) changed_.WaitFor(mutex_, options_.poll_interval);
  }
}

void Communicators::Look() {
  std::vector<Shared> all;
  {
    MutexLock lock(mutex_);
    all = communicators_;
  }
  std::vector<Shared> ended;
  std::string stuck;
  for (const Shared& communicator : all) {
    if (communicator->state() == Communicator::State::kEnded) {
      ended.push_back(communicator);
      continue;
    }
    if (const absl::Status error = communicator->Poll(); !error.ok()) {
      Abort(communicator, error);
    }
    if (communicator->Overdue()) {
      stuck = absl::StrCat("group ", communicator->members().name,
                           " does not end (", communicator->status().ToString(),
                           ")");
    }
  }
  bool tell = false;
  {
    MutexLock lock(mutex_);
    RemoveLocked(ended);
    if (!stuck.empty() && !stuck_) {
      stuck_ = true;
      tell = true;
    }
  }
  if (tell) {
    LogError("NCCL communicator stuck", {{"what", stuck}});
    deps_.on_stuck(stuck);
  }
  if (tell || !ended.empty()) changed_.SignalAll();
}

void Communicators::RemoveLocked(const std::vector<Shared>& ended) {
  for (const Shared& communicator : ended) {
    communicators_.erase(
        std::find(communicators_.begin(), communicators_.end(), communicator));
    if (absl::IsCancelled(communicator->status())) continue;  // it was dropped
    failed_.push_back(
        {deps_.clock.Now() + kFailedKept, MakeReport(*communicator)});
    if (failed_.size() > kMaxFailedKept) failed_.pop_front();
  }
}

NcclReport Communicators::Report() const {
  const absl::Time now = deps_.clock.Now();
  NcclReport out;
  MutexLock lock(mutex_);
  for (auto it = communicators_.rbegin(); it != communicators_.rend(); ++it) {
    out.communicators.push_back(MakeReport(**it));
  }
  for (auto it = failed_.rbegin(); it != failed_.rend(); ++it) {
    if (now < it->until) out.communicators.push_back(it->report);
  }
  out.num_communicators = static_cast<int64_t>(out.communicators.size());
  if (out.num_communicators > kMaxCommunicatorReports) {
    out.communicators.resize(kMaxCommunicatorReports);
  }
  return out;
}

}  // namespace sluice::agent
