#ifndef SLUICE_AGENT_COLLECTIVE_HOST_GROUP_H_
#define SLUICE_AGENT_COLLECTIVE_HOST_GROUP_H_

// Collectives of host memory: mapped memory inside a node, UCX between nodes.

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/collective/collective.h"
#include "agent/collective/group_directory.h"
#include "agent/transport/ucx_transport.h"
#include "common/clock.h"

namespace sluice::agent {

// All outlive the group.
struct HostGroupDeps {
  // Where members of this node meet.
  GroupDirectory& directory;
  // Knows the members of other nodes, a peer's key being its rank. May be null
  // where there are none.
  UcxTransport* transport = nullptr;
  const Clock& clock;
};

struct HostGroupOptions {
  // How long members wait for each other to make the group.
  absl::Duration meet_timeout = absl::Seconds(60);
  // How long nothing may move in a call.
  absl::Duration progress_timeout = absl::Seconds(30);

  // Who hears of the group beside the ends of calls. Called on the group's
  // thread; must not block.
  struct Watch {
    // Once: why the group has ended, also where no call was under way.
    std::function<void(const absl::Status&)> ended = {};
    // Members that what is under way waits for; now and then.
    std::function<void(const std::vector<int>&)> waiting = {};
  };
  Watch watch = {};

  // Errors: INVALID_ARGUMENT.
  absl::Status Validate() const;
};

// Makes a group as member `members.self` has it. Returns at once: members meet
// on the group's own thread, calls wait for that. A member that does not come
// ends all calls with DEADLINE_EXCEEDED, naming it. Members whose Peer::node is
// equal share memory; their groups are found by CollectiveMembers::Id(), of
// which one agent has one group at a time.
//
// The group is not to be destroyed by one of its callbacks. A group that failed
// may be made anew at once, with the same members or others.
//
// Memory that a call names stays mapped by members of this node until its owner
// lets go of it and the group has another call or ends.
//
// Errors: INVALID_ARGUMENT - no members, `self` not one of them, more than 512,
// an agent twice, members of other nodes without a transport.
absl::StatusOr<std::unique_ptr<CollectiveGroup>> MakeHostGroup(
    CollectiveMembers members, HostGroupDeps deps, HostGroupOptions options);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_HOST_GROUP_H_
