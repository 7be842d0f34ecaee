#include "agent/nccl/gpu_lane.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/collective/call_header.h"
#include "agent/nccl/member_exchange.h"
#include "agent/nccl/nccl_api.h"
#include "agent/nccl/stream.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Between two looks at what may have broken while it waits for its start.
constexpr absl::Duration kLook = absl::Milliseconds(20);
// Between two exchanges where nothing could move: more and more.
constexpr absl::Duration kLeastPause = absl::Microseconds(100);
constexpr absl::Duration kMostPause = absl::Milliseconds(2);

}  // namespace

int64_t GpuLane::Way::Ready(int64_t bytes) const {
  int64_t ready = moved;
  for (auto it = posted.begin(); it != posted.end() && it->first == ready;
       ++it) {
    bytes -= it->second.bytes;
    if (bytes < 0 && ready > moved) break;
    ++ready;
  }
  return ready;
}

GpuLane::GpuLane(const Deps& deps)
    : deps_(deps),
      num_members_(static_cast<int>(deps.communicator->members().peers.size())),
      self_(deps.communicator->members().self),
      ways_(static_cast<size_t>(num_members_)) {
  const std::vector<Peer>& peers = deps.communicator->members().peers;
  for (int m = 0; m < num_members_; ++m) {
    if (m != self_) members_[peers[static_cast<size_t>(m)].rank] = m;
  }
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "sluice-lane");
    Work();
  });
}

GpuLane::~GpuLane() { thread_.join(); }

void GpuLane::Begin(const absl::flat_hash_map<Rank, Counts>& counts) {
  MutexLock lock(mutex_);
  for (const auto& [rank, count] : counts) {
    Member& member = ways_[static_cast<size_t>(members_.at(rank))];
    member.sends.total = count.sends;
    member.receives.total = count.receives;
  }
  begun_ = true;
  changed_.SignalAll();
}

void GpuLane::Send(Rank peer, int64_t index, std::byte* data, int64_t bytes,
                   Done done) {
  Post(&Member::sends, peer, index, {data, bytes, std::move(done)});
}

void GpuLane::Receive(Rank peer, int64_t index, std::byte* data, int64_t bytes,
                      Done done) {
  Post(&Member::receives, peer, index, {data, bytes, std::move(done)});
}

void GpuLane::Post(Way Member::*way, Rank peer, int64_t index,
                   Message message) {
  MutexLock lock(mutex_);
  Member& member = ways_[static_cast<size_t>(members_.at(peer))];
  (member.*way).posted.emplace(index, std::move(message));
  changed_.SignalAll();
}

void GpuLane::Cancel(const absl::Status& reason, Done ended) {
  MutexLock lock(mutex_);
  if (failure_.ok()) failure_ = reason;
  ended_.push_back(std::move(ended));
  // Under the lock: once it is over, the communicators may be gone.
  if (!over_) deps_.communicators.Abort(deps_.communicator, reason);
  changed_.SignalAll();
}

bool GpuLane::Waiting() const {
  MutexLock lock(mutex_);
  return waiting_ && !over_;
}

void GpuLane::SetWaiting(bool waiting) {
  MutexLock lock(mutex_);
  waiting_ = waiting;
}

void GpuLane::Leave() {
  MutexLock lock(mutex_);
  leaving_ = true;
  changed_.SignalAll();
  if (over_ || (begun_ && AllMovedLocked())) return;
  if (failure_.ok()) failure_ = absl::CancelledError("the operation was left");
  deps_.communicators.Abort(deps_.communicator, failure_);
}

bool GpuLane::over() const {
  MutexLock lock(mutex_);
  return over_;
}

void GpuLane::AwaitOver() {
  MutexLock lock(mutex_);
  while (!over_) changed_.Wait(mutex_);
}

bool GpuLane::left() const {
  MutexLock lock(mutex_);
  return left_;
}

bool GpuLane::AllMovedLocked() const {
  return std::all_of(ways_.begin(), ways_.end(), [](const Member& member) {
    return member.sends.moved == member.sends.total &&
           member.receives.moved == member.receives.total;
  });
}

void GpuLane::Work() {
  absl::Status status = Carry();
  if (!status.ok()) {
    // On all members, with the first reason; after that nothing is touched.
    deps_.communicators.Abort(deps_.communicator, status);
    deps_.communicator->AwaitEnded();
    status = deps_.communicator->status();
    deps_.communicators.Withdraw(deps_.communicator);
  }
  {
    MutexLock lock(mutex_);
    deps_.turns.Leave(deps_.operation);
    if (failure_.ok()) failure_ = status;
    over_ = true;
    changed_.SignalAll();
  }
  Serve();
}

void GpuLane::Serve() {
  mutex_.Lock();
  while (true) {
    std::vector<Done> messages;
    for (Member& member : ways_) {
      for (Way* way : {&member.sends, &member.receives}) {
        for (auto& [index, message] : way->posted) {
          messages.push_back(std::move(message.done));
        }
        way->posted.clear();
      }
    }
    std::vector<Done> ended = std::exchange(ended_, {});
    if (messages.empty() && ended.empty()) {
      if (leaving_) break;
      changed_.Wait(mutex_);
      continue;
    }
    const absl::Status failure =
        failure_.ok() ? absl::InternalError("a message that was not counted")
                      : failure_;
    mutex_.Unlock();
    for (Done& done : messages) std::move(done)(failure);
    for (Done& done : ended) std::move(done)(absl::OkStatus());
    // They may be the last to hold the operation, which leaves this lane.
    messages.clear();
    ended.clear();
    mutex_.Lock();
  }
  left_ = true;
  mutex_.Unlock();
}

absl::Status GpuLane::Broken() const {
  {
    MutexLock lock(mutex_);
    if (!failure_.ok()) return failure_;
  }
  return deps_.communicator->status();
}

absl::Status GpuLane::Carry() {
  SLUICE_RETURN_IF_ERROR(
      deps_.communicators.Connect(deps_.communicator, absl::InfiniteDuration(),
                                  Communicator::Use::kMessages));
  SLUICE_RETURN_IF_ERROR(AwaitBegin());
  // Members start when the operations before it let them. Nobody waits for this
  // one before all are there.
  SLUICE_RETURN_IF_ERROR(
      ExchangeWithMembers(deps_.communicator, "", absl::InfiniteFuture())
          .status());
  SetWaiting(false);
  deps_.turns.Enter(deps_.operation);
  return Segments();
}

absl::Status GpuLane::AwaitBegin() {
  for (;;) {
    SLUICE_RETURN_IF_ERROR(Broken());
    MutexLock lock(mutex_);
    if (begun_) return absl::OkStatus();
    changed_.WaitFor(mutex_, kLook);
  }
}

absl::Status GpuLane::Segments() {
  absl::Duration pause = kLeastPause;
  for (;;) {
    SLUICE_ASSIGN_OR_RETURN(const LaneStep step, Agree());
    if (step.over) return absl::OkStatus();
    if (step.moved > moved_) {
      SLUICE_RETURN_IF_ERROR(AwaitTurn(step));
      if (MovesHere(step)) SLUICE_RETURN_IF_ERROR(Move(step));
      deps_.turns.End(deps_.operation);
      moved_ = step.moved;
      pause = kLeastPause;
    } else {
      MutexLock lock(mutex_);
      changed_.WaitFor(mutex_, pause);
      pause = std::min(2 * pause, kMostPause);
    }
  }
}

absl::StatusOr<LaneStep> GpuLane::Agree() {
  bool may_move = false;
  LaneCard card = MakeCard(may_move);
  const SegmentTurns::Proposal proposal =
      deps_.turns.Propose(deps_.operation, may_move);
  card.count = proposal.count;
  card.shared = proposal.shared;
  SLUICE_ASSIGN_OR_RETURN(
      const std::vector<std::string> told,
      ExchangeWithMembers(deps_.communicator, card.Encode(),
                          deps_.clock.Now() + deps_.patience));
  std::vector<LaneCard> cards;
  for (const std::string& bytes : told) {
    SLUICE_ASSIGN_OR_RETURN(cards.emplace_back(),
                            LaneCard::Decode(bytes, num_members_));
  }
  LaneStep step = PlanLaneStep(self_, cards);
  deps_.turns.Agree(deps_.operation, step.count, MovesHere(step));
  return step;
}

absl::Status GpuLane::AwaitTurn(const LaneStep& step) {
  SetWaiting(true);
  if (MovesHere(step)) {
    SLUICE_RETURN_IF_ERROR(
        deps_.turns.Await(deps_.operation, [this] { return Broken(); }));
  }
  if (step.shared) {
    SLUICE_RETURN_IF_ERROR(
        ExchangeWithMembers(deps_.communicator, "", absl::InfiniteFuture())
            .status());
  }
  SetWaiting(false);
  return absl::OkStatus();
}

bool GpuLane::MovesHere(const LaneStep& step) const {
  MutexLock lock(mutex_);
  for (size_t m = 0; m < ways_.size(); ++m) {
    if (step.until[m].sends > ways_[m].sends.moved ||
        step.until[m].receives > ways_[m].receives.moved) {
      return true;
    }
  }
  return false;
}

LaneCard GpuLane::MakeCard(bool& may_move) const {
  MutexLock lock(mutex_);
  int64_t ways = 0;
  for (const Member& member : ways_) {
    for (const Way* way : {&member.sends, &member.receives}) {
      if (way->Ready(0) > way->moved) ++ways;
    }
  }
  may_move = ways > 0;
  const int64_t share = deps_.segment_bytes / std::max<int64_t>(1, ways);
  LaneCard card;
  card.done = AllMovedLocked();
  for (const Member& member : ways_) {
    card.ready.push_back(
        {member.sends.Ready(share), member.receives.Ready(share)});
  }
  return card;
}

GpuLane::Batch GpuLane::TakeBatch(const LaneStep& step) {
  Batch batch;
  const auto take = [&](int member, bool send, Way& way, int64_t until) {
    for (; way.moved < until; ++way.moved) {
      const auto it = way.posted.find(way.moved);
      batch.entries.push_back({member, send, std::move(it->second)});
      way.posted.erase(it);
    }
  };
  MutexLock lock(mutex_);
  for (int m = 0; m < num_members_; ++m) {
    const LaneMark& until = step.until[static_cast<size_t>(m)];
    Member& member = ways_[static_cast<size_t>(m)];
    take(m, /*send=*/true, member.sends, until.sends);
    take(m, /*send=*/false, member.receives, until.receives);
  }
  return batch;
}

absl::Status GpuLane::Move(const LaneStep& step) {
  Batch batch = TakeBatch(step);
  const absl::Status moved = deps_.communicator->Run(
      [&](const NcclApi& nccl, NcclComm comm, NcclStream& stream) {
        NcclResult result = nccl.GroupStart();
        for (const Batch::Entry& entry : batch.entries) {
          if (result != NcclResult::kSuccess &&
              result != NcclResult::kInProgress) {
            break;
          }
          const auto bytes = static_cast<size_t>(entry.message.bytes);
          result =
              entry.send
                  ? nccl.Send(entry.message.data, bytes, NcclDataType::kUint8,
                              entry.member, comm, stream.handle())
                  : nccl.Recv(entry.message.data, bytes, NcclDataType::kUint8,
                              entry.member, comm, stream.handle());
        }
        const NcclResult ended = nccl.GroupEnd();
        return result == NcclResult::kSuccess ||
                       result == NcclResult::kInProgress
                   ? ended
                   : result;
      },
      deps_.clock.Now() + deps_.patience);
  if (moved.ok()) {
    Finish(std::move(batch));
    return absl::OkStatus();
  }
  const absl::Status failure = Annotate(moved, Describe(batch));
  // Answered once nothing touches them any more: Serve.
  MutexLock lock(mutex_);
  for (Batch::Entry& entry : batch.entries) {
    Member& member = ways_[static_cast<size_t>(entry.member)];
    Way& way = entry.send ? member.sends : member.receives;
    const int64_t index = -1 - static_cast<int64_t>(way.posted.size());
    way.posted.emplace(index, std::move(entry.message));
  }
  return failure;
}

void GpuLane::Finish(Batch batch) {
  for (Batch::Entry& entry : batch.entries) {
    std::move(entry.message.done)(absl::OkStatus());
  }
}

std::string GpuLane::Describe(const Batch& batch) const {
  std::vector<std::string> to, from;
  for (const Batch::Entry& entry : batch.entries) {
    std::vector<std::string>& names = entry.send ? to : from;
    std::string name = MemberName(deps_.communicator->members(), entry.member);
    if (names.empty() || names.back() != name) names.push_back(std::move(name));
  }
  return absl::StrCat(
      "messages",
      to.empty() ? "" : absl::StrCat(" to ", absl::StrJoin(to, ", ")),
      from.empty() ? "" : absl::StrCat(" from ", absl::StrJoin(from, ", ")));
}

}  // namespace sluice::agent
