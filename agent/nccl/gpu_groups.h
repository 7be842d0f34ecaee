#ifndef SLUICE_AGENT_NCCL_GPU_GROUPS_H_
#define SLUICE_AGENT_NCCL_GPU_GROUPS_H_

// The groups of one agent's GPU: NCCL as found on this machine, the GPU's
// streams, and communicators that live and die with the agents they are of.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/collective/collective.h"
#include "agent/device/device.h"
#include "agent/nccl/communicators.h"
#include "agent/nccl/gpu_copies.h"
#include "agent/nccl/host_group_controls.h"
#include "agent/nccl/nccl_library.h"
#include "agent/nccl/stream.h"
#include "common/clock.h"
#include "common/command.h"
#include "common/mutex.h"

namespace sluice::agent {

// Thread-safe.
class GpuGroups {
 public:
  struct Options {
    NcclLibraryOptions library;
    CommunicatorOptions communicators;
  };
  // All outlive it.
  struct Deps {
    GpuSeat seat;
    Device& host;
    // What members say to each other goes over groups of host memory.
    HostGroupControls::MakeGroup make_host_group;
    const Clock& clock;
    // As CommunicatorDeps::on_stuck.
    std::function<void(const std::string&)> on_stuck;
  };

  // Errors: as NcclLibrary::Open; what the runtime says of the GPU.
  static absl::StatusOr<std::unique_ptr<GpuGroups>> Create(
      const Deps& deps, const Options& options);

  // Who lives, this agent among them. Communicators with others are aborted.
  void SetPeers(const std::vector<Peer>& peers);

  struct Timeouts {
    absl::Duration meet;  // until all members are there
    absl::Duration call;  // of one call, once it is its turn
  };
  // Makes one member of a group; as MakeNcclGroup. Groups end before this.
  absl::StatusOr<std::unique_ptr<CollectiveGroup>> Make(
      const CollectiveMembers& members, const Timeouts& timeouts);

  // "NCCL 2.28.9".
  std::string Describe() const;
  Communicators& communicators() { return *communicators_; }

 private:
  GpuGroups(const Deps& deps, std::unique_ptr<NcclDevice> device)
      : deps_(deps),
        device_(std::move(device)),
        controls_(deps_.host, deps_.make_host_group) {}

  const Deps deps_;
  const std::unique_ptr<NcclDevice> device_;
  HostGroupControls controls_;
  Mutex mutex_;
  std::vector<Peer> peers_ ABSL_GUARDED_BY(mutex_);
  // Last: uses the members above.
  std::unique_ptr<Communicators> communicators_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_GPU_GROUPS_H_
