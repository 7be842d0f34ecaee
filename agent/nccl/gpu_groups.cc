#include "agent/nccl/gpu_groups.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/nccl/cuda_stream.h"
#include "agent/nccl/nccl_group.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent {

absl::StatusOr<std::unique_ptr<GpuGroups>> GpuGroups::Create(
    const Deps& deps, const Options& options) {
  SLUICE_ASSIGN_OR_RETURN(std::shared_ptr<const NcclLibrary> library,
                          NcclLibrary::Open(options.library));
  LogInfo("NCCL found",
          {{"file", library->path()}, {"version", library->VersionName()}});
  SLUICE_ASSIGN_OR_RETURN(
      auto device, MakeCudaNcclDevice(deps.seat.runtime, deps.seat.index));
  std::unique_ptr<GpuGroups> out(new GpuGroups(deps, std::move(device)));
  SLUICE_ASSIGN_OR_RETURN(out->communicators_,
                          Communicators::Create({.library = std::move(library),
                                                 .device = *out->device_,
                                                 .controls = out->controls_,
                                                 .clock = deps.clock,
                                                 .on_stuck = deps.on_stuck},
                                                options.communicators));
  return out;
}

void GpuGroups::SetPeers(const std::vector<Peer>& peers) {
  std::vector<Peer> before;
  {
    MutexLock lock(mutex_);
    before = std::exchange(peers_, peers);
  }
  for (const Peer& peer : peers) {
    communicators_->Admit(peer.rank, peer.incarnation);
  }
  for (const Peer& peer : before) {
    const bool lives =
        std::any_of(peers.begin(), peers.end(), [&](const Peer& now) {
          return now.rank == peer.rank && now.incarnation == peer.incarnation;
        });
    if (lives) continue;
    communicators_->Retire(
        peer.rank, peer.incarnation,
        absl::UnavailableError(absl::StrCat("member ", peer.name, " (rank ",
                                            peer.rank.value(), ") is lost")));
  }
}

absl::StatusOr<std::unique_ptr<CollectiveGroup>> GpuGroups::Make(
    const CollectiveMembers& members, const Timeouts& timeouts) {
  SLUICE_RETURN_IF_ERROR(communicators_->Declare(members));
  NcclGroupOptions options;
  options.connect_timeout = timeouts.meet;
  options.call_timeout = timeouts.call;
  return MakeNcclGroup(*communicators_, deps_.clock, members, options);
}

std::string GpuGroups::Describe() const {
  return absl::StrCat("NCCL ", communicators_->library().VersionName());
}

}  // namespace sluice::agent
