#include "agent/collective/reduce_groups.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/convert_limits.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// How long a name may still be that of a member that is just leaving.
constexpr absl::Duration kNameGrace = absl::Seconds(2);
// How long news of a member that died while members met may take; without any
// they meet again: a connection can break though both its ends live.
constexpr absl::Duration kNewsGrace = absl::Seconds(2);

// How many groups that failed are told of, and how long.
constexpr size_t kMaxFailedKept = 16;
constexpr absl::Duration kFailedKept = absl::Minutes(10);
// Names of members in all that one report may have.
constexpr size_t kMaxReportedMembers = 65536;

ReduceGroupState StateOf(ReduceLane::State state) {
  switch (state) {
    case ReduceLane::State::kJoining:
      return ReduceGroupState::kJoining;
    case ReduceLane::State::kOpen:
      return ReduceGroupState::kOpen;
    case ReduceLane::State::kEnding:
      return ReduceGroupState::kEnding;
    case ReduceLane::State::kEnded:
      return ReduceGroupState::kEnded;
  }
  return ReduceGroupState::kUnspecified;
}

ReduceGroupReport MakeReport(const ReduceGroupSpec& spec,
                             const ReduceLane::Progress& progress,
                             const std::string& waits_for) {
  ReduceGroupReport out;
  out.name = spec.name;
  out.agents = spec.agents;
  out.ranks = spec.ranks;
  out.average = spec.operation == ReduceOp::kAverage;
  out.state = StateOf(progress.state);
  out.requests_waiting = progress.requests_waiting;
  out.collectives_sent = progress.collectives_sent;
  out.collectives_done = progress.collectives_done;
  out.bytes_reduced = progress.bytes_reduced;
  out.bucket_bytes = progress.bucket_bytes;
  out.error = progress.error.ok() ? waits_for : progress.error.ToString();
  return out;
}

std::string Describe(const Peer& peer) {
  return absl::StrCat(peer.name, " (rank ", peer.rank.value(), ")");
}

// Why a group of these peers is over, now that those of `now` live.
absl::Status CheckAlive(const std::vector<Peer>& peers,
                        const std::vector<Peer>& now) {
  for (const Peer& peer : peers) {
    const auto it = std::find_if(now.begin(), now.end(), [&](const Peer& p) {
      return p.rank == peer.rank;
    });
    if (it == now.end()) {
      return absl::UnavailableError(
          absl::StrCat("member ", Describe(peer), " is lost"));
    }
    if (it->incarnation != peer.incarnation) {
      return absl::UnavailableError(absl::StrCat(
          "member ", Describe(peer), " was restarted: join the group anew"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReduceGroupSpec::Validate() const {
  if (agents.empty() == ranks.empty()) {
    return absl::InvalidArgumentError(
        "members: expected agents or ranks, and not both");
  }
  std::set<std::string> names;
  for (const std::string& agent : agents) {
    if (names.insert(agent).second) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("agents: expected each once, found ", agent, " twice"));
  }
  std::set<Rank> numbers;
  for (const Rank rank : ranks) {
    if (numbers.insert(rank).second) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "ranks: expected each once, found ", rank.value(), " twice"));
  }
  if (call_deadline <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("call_deadline: expected more than 0, found ",
                     absl::FormatDuration(call_deadline)));
  }
  if (!(bucket_mib >= 0 && bucket_mib <= ReduceGroups::kMaxBucketMib)) {
    return absl::InvalidArgumentError(absl::StrCat("bucket_mib: expected 0 to ",
                                                   ReduceGroups::kMaxBucketMib,
                                                   ", found ", bucket_mib));
  }
  return absl::OkStatus();
}

ReduceGroups::ReduceGroups(Deps deps)
    : deps_(std::move(deps)), reaper_("reduce-reaper") {}

ReduceGroups::~ReduceGroups() { Shutdown(); }

void ReduceGroups::SetPeers(const std::vector<Peer>& peers) {
  MutexLock lock(mutex_);
  EndWithoutLocked(peers);
  peers_ = peers;
  changed_.SignalAll();
}

void ReduceGroups::EndWithout(const std::vector<Peer>& peers) {
  MutexLock lock(mutex_);
  EndWithoutLocked(peers);
}

void ReduceGroups::EndWithoutLocked(const std::vector<Peer>& peers) {
  std::erase_if(peers_, [&](const Peer& peer) {
    return !CheckAlive({peer}, peers).ok();
  });
  for (Entry& entry : entries_) {
    const absl::Status alive = CheckAlive(entry.peers, peers);
    if (alive.ok()) continue;
    entry.lane->Retire(alive, std::exchange(entry.peers, {}));
  }
}

std::shared_ptr<ReduceLane> ReduceGroups::Join(
    ReduceGroupSpec spec, std::string member, ReduceLane::Callbacks callbacks) {
  ReduceLane::Options options;
  options.name = spec.name;
  options.member = std::move(member);
  options.operation = spec.operation;
  options.bucket_mib = spec.bucket_mib;
  MutexLock lock(mutex_);
  const auto entry = entries_.insert(entries_.end(), Entry());
  entry->spec = std::move(spec);
  auto gone = [this, entry, told = std::move(callbacks.gone)] {
    told();
    Remove(entry);
  };
  callbacks.gone = std::move(gone);
  absl::StatusOr<std::unique_ptr<ReduceCopies>> copies =
      NewCopies(entry->spec.gpu);
  const absl::Status refused = copies.status();
  if (!refused.ok()) copies = std::make_unique<HostReduceCopies>(deps_.device);
  entry->lane = std::make_shared<ReduceLane>(
      std::move(options), *std::move(copies), std::move(callbacks));
  const absl::Time deadline = deps_.clock.Now() + entry->spec.deadline;
  entry->lane->Start(
      [this, entry, deadline, refused](const absl::Status& last) {
        return Make(entry, deadline, refused, last);
      });
  return entry->lane;
}

absl::StatusOr<std::unique_ptr<ReduceCopies>> ReduceGroups::NewCopies(
    bool gpu) const {
  if (!gpu) return std::make_unique<HostReduceCopies>(deps_.device);
  if (deps_.make_gpu_copies) return deps_.make_gpu_copies();
  return absl::FailedPreconditionError(
      "it serves host memory: a group of GPUs needs agents that serve one "
      "(--device cuda)");
}

absl::StatusOr<ReduceLane::Made> ReduceGroups::Make(Entries::iterator entry,
                                                    absl::Time deadline,
                                                    const absl::Status& refused,
                                                    const absl::Status& last) {
  ReduceLane::Made made;
  SLUICE_ASSIGN_OR_RETURN(made.members, AwaitMembers(entry, deadline, last));
  const Timeouts timeouts{
      std::max(deadline - deps_.clock.Now(), absl::Milliseconds(1)),
      entry->spec.call_deadline};
  const MakeGroup& make =
      entry->spec.gpu ? deps_.make_gpu_group : deps_.make_group;
  SLUICE_ASSIGN_OR_RETURN(
      made.group, refused.ok()
                      ? make(made.members, timeouts)
                      : deps_.make_refusal(made.members, refused, timeouts));
  return made;
}

absl::StatusOr<CollectiveMembers> ReduceGroups::AwaitMembers(
    Entries::iterator entry, absl::Time deadline, const absl::Status& last) {
  const absl::Time start = deps_.clock.Now();
  const absl::Time name_deadline = std::min(deadline, start + kNameGrace);
  const absl::Time news_deadline = std::min(deadline, start + kNewsGrace);
  MutexLock lock(mutex_);
  for (;;) {
    if (stopping_)
      return absl::UnavailableError(absl::StrCat(deps_.agent, " stops"));
    if (entries_.size() > kMaxGroups) {
      return absl::ResourceExhaustedError(absl::StrCat(
          deps_.agent, ": expected at most ", kMaxGroups, " reduce groups"));
    }
    if (entry->cancelled) return absl::CancelledError("the worker has gone");
    const absl::Time now = deps_.clock.Now();
    absl::Time until = name_deadline;
    absl::Status status = CheckNameLocked(entry);
    if (status.ok()) {
      until = deadline;
      absl::StatusOr<CollectiveMembers> members = FindLocked(entry->spec);
      if (members.ok() && !last.ok() && members->peers == entry->peers &&
          (now < news_deadline || now >= deadline)) {
        until = news_deadline;
        members = last;
      } else if (!absl::IsNotFound(members.status())) {
        if (members.ok()) entry->peers = members->peers;
        entry->waits_for.clear();
        return members;
      }
      status = members.status();
    }
    entry->waits_for = std::string(status.message());
    if (now >= until) return status;
    changed_.WaitFor(mutex_, until - now);
  }
}

absl::Status ReduceGroups::CheckNameLocked(Entries::iterator entry) const {
  for (auto it = entries_.begin(); it != Entries::const_iterator(entry); ++it) {
    if (it->spec.name != entry->spec.name) continue;
    return absl::AlreadyExistsError(absl::StrCat(
        "group ", entry->spec.name, ": a worker of ", deps_.agent,
        it->lane->ending() ? " is still leaving it" : " is a member already"));
  }
  return absl::OkStatus();
}

absl::StatusOr<CollectiveMembers> ReduceGroups::FindLocked(
    const ReduceGroupSpec& spec) const {
  CollectiveMembers out;
  out.name = spec.name;
  out.self = -1;
  const size_t size = std::max(spec.agents.size(), spec.ranks.size());
  for (size_t i = 0; i < size; ++i) {
    const auto it =
        std::find_if(peers_.begin(), peers_.end(), [&](const Peer& peer) {
          return spec.agents.empty() ? peer.rank == spec.ranks[i]
                                     : peer.name == spec.agents[i];
        });
    if (it == peers_.end()) {
      return absl::NotFoundError(absl::StrCat(
          "group ", spec.name, ": no agent ",
          spec.agents.empty() ? absl::StrCat("of rank ", spec.ranks[i].value())
                              : spec.agents[i],
          " lives"));
    }
    if (it->name == deps_.agent) out.self = static_cast<int>(i);
    out.peers.push_back(*it);
  }
  if (out.self < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("group ", spec.name, ": expected this agent (",
                     deps_.agent, ") among its members"));
  }
  return out;
}

void ReduceGroups::EndLocked(Entry& entry, const absl::Status& reason) {
  entry.cancelled = true;
  entry.lane->End(reason);  // returns at once
}

void ReduceGroups::EndSession(uint64_t session, const absl::Status& reason) {
  MutexLock lock(mutex_);
  for (Entry& entry : entries_) {
    if (entry.spec.session == session) EndLocked(entry, reason);
  }
  changed_.SignalAll();
}

std::vector<ReduceGroupReport> ReduceGroups::Report() const {
  const absl::Time now = deps_.clock.Now();
  std::vector<ReduceGroupReport> out;
  MutexLock lock(mutex_);
  for (const Failed& failed : failed_) {
    if (now < failed.until) out.push_back(failed.report);
  }
  for (const Entry& entry : entries_) {
    out.push_back(
        MakeReport(entry.spec, entry.lane->progress(), entry.waits_for));
  }
  size_t members = 0, count = 0;
  for (; count < out.size(); ++count) {
    members += out[count].agents.size() + out[count].ranks.size();
    if (members > kMaxReportedMembers || count == kMaxReduceGroupReports) break;
  }
  out.resize(count);
  return out;
}

void ReduceGroups::KeepLocked(const Entry& entry) {
  const ReduceLane::Progress progress = entry.lane->progress();
  if (absl::IsCancelled(progress.error)) return;  // it was left
  failed_.push_back(
      {deps_.clock.Now() + kFailedKept, MakeReport(entry.spec, progress, "")});
  if (failed_.size() > kMaxFailedKept) failed_.pop_front();
}

void ReduceGroups::Remove(Entries::iterator entry) {
  MutexLock lock(mutex_);
  KeepLocked(*entry);
  // This is the lane's own thread: another one lets it go. Given to that one
  // before the removal can be seen: Shutdown stops it after the last removal.
  reaper_.Post([lane = std::move(entry->lane)] {});
  entries_.erase(entry);
  changed_.SignalAll();
}

void ReduceGroups::Shutdown() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    for (Entry& entry : entries_) {
      EndLocked(entry,
                absl::UnavailableError(absl::StrCat(deps_.agent, " stops")));
    }
    changed_.SignalAll();
    while (!entries_.empty()) changed_.Wait(mutex_);
  }
  reaper_.Stop();
}

}  // namespace sluice::agent
