#ifndef SLUICE_AGENT_NCCL_REFUSED_GROUP_H_
#define SLUICE_AGENT_NCCL_REFUSED_GROUP_H_

// A member of a group of GPUs that cannot be in it: its agent serves host
// memory, or has no NCCL.

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/collective/collective.h"
#include "agent/collective/host_group.h"
#include "agent/device/device.h"
#include "agent/nccl/host_group_controls.h"

namespace sluice::agent {

// Makes one that meets the others where they meet before they make a
// communicator, and gives them a card that says `why`; who refused without a
// word would be waited for. So the first call of all members ends with
// FAILED_PRECONDITION, naming this one and why; here also where not all come
// within options.meet_timeout. `host` outlives the group.
// Errors: those of `make_group`; what the device says of the memory.
absl::StatusOr<std::unique_ptr<CollectiveGroup>> MakeRefusedGroup(
    const CollectiveMembers& members, const absl::Status& why, Device& host,
    const HostGroupControls::MakeGroup& make_group, HostGroupOptions options);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_REFUSED_GROUP_H_
