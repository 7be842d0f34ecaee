#ifndef SLUICE_AGENT_NCCL_GROUP_CONTROL_H_
#define SLUICE_AGENT_NCCL_GROUP_CONTROL_H_

// What the members of a group tell each other beside the data: how they meet,
// what each is about to do, that one has failed. The seam to our own RPC: NCCL
// has no way to say any of it, and its unique id, which lets who has it into
// the group, travels no other way.

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/collective/collective.h"

namespace sluice::agent {

// One member's end of it. Thread-safe. Callbacks run on threads of the
// implementation, never under a lock.
class GroupControl {
 public:
  using Done =
      absl::AnyInvocable<void(absl::StatusOr<std::vector<std::string>>) &&>;

  virtual ~GroupControl() = default;

  // Ends this member's part in it: no callback runs after it, what is said is
  // said to nobody. What the others say from then on may end with CANCELLED, as
  // may the group. Called once, before the last owner lets go; not by a
  // callback.
  virtual void Leave() = 0;

  // Gives `own` to all members and takes what each gave, by member: the n-th
  // exchange of each meet. `done` runs once, in the order of the calls.
  // Errors: UNAVAILABLE - a member is gone (named). Else the reason of a Fail.
  virtual void Exchange(std::string own, Done done) = 0;

  // The members that have not come to the oldest exchange under way, or had not
  // when the group ended: who waited too long may learn of it only then.
  virtual std::vector<int> Missing() const = 0;

  // Ends the group on all members with `reason`; the first one counts.
  virtual void Fail(const absl::Status& reason) = 0;
};

class GroupControls {
 public:
  // Runs once, when the group has ended: with the reason of a Fail, this
  // member's own included, or UNAVAILABLE when a member is gone (named).
  using OnFailed = absl::AnyInvocable<void(absl::Status) &&>;

  virtual ~GroupControls() = default;

  // Members find each other by CollectiveMembers::Id(); who made the group anew
  // counts anew. Does not wait for them.
  // Errors: UNAVAILABLE - a member is gone, or nothing reaches it.
  virtual absl::StatusOr<std::shared_ptr<GroupControl>> Join(
      const CollectiveMembers& members, OnFailed on_failed) = 0;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_GROUP_CONTROL_H_
