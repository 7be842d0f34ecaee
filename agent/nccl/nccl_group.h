#ifndef SLUICE_AGENT_NCCL_NCCL_GROUP_H_
#define SLUICE_AGENT_NCCL_NCCL_GROUP_H_

// Collectives of GPUs: a group over a communicator of NCCL.

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/collective/collective.h"
#include "agent/nccl/communicators.h"
#include "common/clock.h"

namespace sluice::agent {

struct NcclGroupOptions {
  // How long making the communicator may take, within what its maker allows.
  absl::Duration connect_timeout = absl::InfiniteDuration();
  // How long a call may take once it is its turn: that members meet, and that
  // its data moves (NCCL does not tell how far it is).
  absl::Duration call_timeout = absl::Seconds(30);

  // Errors: INVALID_ARGUMENT.
  absl::Status Validate() const;
};

// Makes a group as member `members.self` has it, which has been declared to
// `communicators`. Returns at once: the communicator is made on the group's own
// thread, calls wait for that. Ranges name memory of the communicators' device.
// A call is one group call of NCCL: the library's own collective where pieces
// are even and without gaps, grouped sends and receives (or reductions) else.
//
// An agent has one group of an id at a time; it is not to be destroyed by one
// of its callbacks. Both references outlive it. A group that failed is made
// anew by making another.
//
// Errors: INVALID_ARGUMENT - options. NOT_FOUND - the group is not declared.
absl::StatusOr<std::unique_ptr<CollectiveGroup>> MakeNcclGroup(
    Communicators& communicators, const Clock& clock,
    const CollectiveMembers& members, NcclGroupOptions options);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_NCCL_GROUP_H_
