#ifndef SLUICE_AGENT_NCCL_HOST_GROUP_CONTROLS_H_
#define SLUICE_AGENT_NCCL_HOST_GROUP_CONTROLS_H_

// GroupControl over a group of host memory: what members tell each other are
// small all-gathers, and its end is the group's. So members of a GPU group find
// each other, learn of each other's death and of the reason of an end in the
// way in which those of a host group do.

#include <functional>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "agent/collective/collective.h"
#include "agent/collective/host_group.h"
#include "agent/device/device.h"
#include "agent/nccl/group_control.h"

namespace sluice::agent {

// Thread-safe.
class HostGroupControls final : public GroupControls {
 public:
  // As MakeHostGroup, with everything that it needs.
  using MakeGroup =
      std::function<absl::StatusOr<std::unique_ptr<CollectiveGroup>>(
          CollectiveMembers members, HostGroupOptions options)>;

  // `device` is host memory; it outlives this and all controls.
  HostGroupControls(Device& device, MakeGroup make_group)
      : device_(device), make_group_(std::move(make_group)) {}

  // The host group has the name and the id of `members`: where one member means
  // host memory and another one GPUs, both learn of it.
  absl::StatusOr<std::shared_ptr<GroupControl>> Join(
      const CollectiveMembers& members, OnFailed on_failed) override;

 private:
  Device& device_;
  const MakeGroup make_group_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_HOST_GROUP_CONTROLS_H_
