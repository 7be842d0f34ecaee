#ifndef SLUICE_AGENT_COLLECTIVE_REDUCE_GROUPS_H_
#define SLUICE_AGENT_COLLECTIVE_REDUCE_GROUPS_H_

// The reduce groups that workers of this agent are in: who their members are,
// and when a member's end is theirs.

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/collective/collective.h"
#include "agent/collective/reduce_copies.h"
#include "agent/collective/reduce_lane.h"
#include "agent/device/device.h"
#include "common/clock.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "common/reduce_report.h"
#include "common/serial_executor.h"

namespace sluice::agent {

// What a worker says when it joins: see JoinReduceGroup of
// proto/sluice/v1/reduce_group.proto.
struct ReduceGroupSpec {
  uint64_t session = 0;
  std::string name;
  // Members in order, by name or, if there is none, by rank.
  std::vector<std::string> agents;
  std::vector<Rank> ranks;
  ReduceOp operation = ReduceOp::kSum;
  bool gpu = false;  // tensors lie in memory of the agents' GPUs
  double bucket_mib = 25;
  absl::Duration deadline = absl::Seconds(30);
  // How long a collective may stand still.
  absl::Duration call_deadline = absl::Seconds(60);

  // Errors: INVALID_ARGUMENT - no or both kinds of members, one twice, a bucket
  // size out of 0 to 1024.
  absl::Status Validate() const;
};

// Thread-safe.
class ReduceGroups {
 public:
  static constexpr double kMaxBucketMib = 1024;
  // Groups of one agent; each has threads of its own.
  static constexpr size_t kMaxGroups = 256;

  struct Timeouts {
    absl::Duration meet;      // until all members are there
    absl::Duration progress;  // without any, in a collective
  };
  // Makes one member of a group; as MakeHostGroup.
  using MakeGroup =
      std::function<absl::StatusOr<std::unique_ptr<CollectiveGroup>>(
          CollectiveMembers members, const Timeouts& timeouts)>;
  // As MakeRefusedGroup.
  using MakeRefusal =
      std::function<absl::StatusOr<std::unique_ptr<CollectiveGroup>>(
          CollectiveMembers members, const absl::Status& why,
          const Timeouts& timeouts)>;
  // How lanes of a GPU's memory copy.
  using MakeCopies =
      std::function<absl::StatusOr<std::unique_ptr<ReduceCopies>>()>;
  // All outlive it.
  struct Deps {
    Device& device;  // of host memory
    const Clock& clock;
    MakeGroup make_group;
    // Name of this agent.
    std::string agent;
    // Of groups of GPUs; null where this agent serves none.
    MakeGroup make_gpu_group = {};
    MakeCopies make_gpu_copies = {};
    // Of groups of GPUs that this agent cannot be in: so that the other members
    // learn of it and why, and end as well.
    MakeRefusal make_refusal = {};
  };

  explicit ReduceGroups(Deps deps);
  // As Shutdown.
  ~ReduceGroups();
  ReduceGroups(const ReduceGroups&) = delete;
  ReduceGroups& operator=(const ReduceGroups&) = delete;

  // Who lives, this agent among them; all can be reached now. Does first what
  // EndWithout does.
  void SetPeers(const std::vector<Peer>& peers);
  // A group with a member that is not among `peers` any more, or lives anew
  // there, ends with UNAVAILABLE, naming it; nobody meets it again until
  // SetPeers.
  void EndWithout(const std::vector<Peer>& peers);

  // Joins; `callbacks.joined` says how that went: INVALID_ARGUMENT - this agent
  // is no member; NOT_FOUND - an agent does not live (named) and did not come
  // to until the deadline; ALREADY_EXISTS - the name is joined;
  // RESOURCE_EXHAUSTED - there are kMaxGroups; UNAVAILABLE -
  // after Shutdown; FAILED_PRECONDITION - a group of GPUs, and the agent of a
  // member cannot be in one (named, with its reason), as soon as all have met;
  // and what the group says. Requires a valid spec.
  std::shared_ptr<ReduceLane> Join(ReduceGroupSpec spec, std::string member,
                                   ReduceLane::Callbacks callbacks);

  // Returns what there is to tell of the groups, those that failed lately
  // included; of one name, the oldest first. What would be too much for one
  // message is left out.
  std::vector<ReduceGroupReport> Report() const;

  // Ends all groups of a worker that has gone.
  void EndSession(uint64_t session, const absl::Status& reason);

  // Ends all groups and waits until no memory is touched any more.
  void Shutdown();

 private:
  struct Entry {
    ReduceGroupSpec spec;
    std::shared_ptr<ReduceLane> lane;
    std::vector<Peer> peers;  // once they were found
    bool cancelled = false;   // while they are looked for
    std::string waits_for;    // then: what is missing
  };
  using Entries = std::list<Entry>;
  struct Failed {
    absl::Time until;  // told until then
    ReduceGroupReport report;
  };

  absl::StatusOr<std::unique_ptr<ReduceCopies>> NewCopies(bool gpu) const;
  // Runs on the lane's thread; may block until the deadline. `refused`: why
  // this agent cannot be in the group; OK if it can.
  absl::StatusOr<ReduceLane::Made> Make(Entries::iterator entry,
                                        absl::Time deadline,
                                        const absl::Status& refused,
                                        const absl::Status& last);
  // Waits until they live; after `last`, for a while for others than those.
  // Returns `last` at the deadline if they are the same then.
  absl::StatusOr<CollectiveMembers> AwaitMembers(Entries::iterator entry,
                                                 absl::Time deadline,
                                                 const absl::Status& last);
  void EndWithoutLocked(const std::vector<Peer>& peers)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<CollectiveMembers> FindLocked(
      const ReduceGroupSpec& spec) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckNameLocked(Entries::iterator entry) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndLocked(Entry& entry, const absl::Status& reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes note of a failure that people may ask for.
  void KeepLocked(const Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remove(Entries::iterator entry);

  const Deps deps_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Peer> peers_ ABSL_GUARDED_BY(mutex_);
  Entries entries_ ABSL_GUARDED_BY(mutex_);
  std::deque<Failed> failed_ ABSL_GUARDED_BY(mutex_);  // oldest first
  // Lets lanes go: they must not on their own threads.
  SerialExecutor reaper_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_REDUCE_GROUPS_H_
