#ifndef SLUICE_AGENT_AGENT_DEVICE_H_
#define SLUICE_AGENT_AGENT_DEVICE_H_

// What one agent serves, as --device names it: the memory of its host, or of a
// GPU and of its host beside it.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/cuda_piece_mover.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/device_packer.h"
#include "agent/cuda/pinned_host_device.h"
#include "agent/device/device.h"
#include "agent/device/host_device.h"
#include "agent/executor/piece_mover.h"

namespace sluice::agent {

class AgentDevice {
 public:
  // cuda::LoadCudaRuntime, or a fake in its place.
  using LoadCuda =
      std::function<absl::StatusOr<std::unique_ptr<cuda::CudaRuntime>>()>;

  // What SLUICE_DEVICE names, unchecked; "host" where it is unset or empty.
  static std::string NameFromEnvironment();
  // Errors: INVALID_ARGUMENT - not "host", "cuda" or "cuda:N".
  static absl::Status Check(absl::string_view name);
  // Opens "host", "cuda" (which is "cuda:0") or "cuda:N". `gpu_blocks` is what
  // a movement's kernels may use of a GPU: see CudaPieceMover. Errors: as
  // Check; those of LoadCudaRuntime and CudaDevice::Open.
  static absl::StatusOr<std::unique_ptr<AgentDevice>> Open(
      absl::string_view name, const LoadCuda& load, uint32_t gpu_blocks);
  AgentDevice(const AgentDevice&) = delete;
  AgentDevice& operator=(const AgentDevice&) = delete;

  // Where placements lie that are in the agent's own memory.
  Device& arenas() {
    return cuda_ != nullptr ? static_cast<Device&>(*cuda_) : host_;
  }
  // Where samples lie, and all other memory that the host reads.
  HostDevice& host() { return host_; }
  // Memory of the host that the GPU reaches; null where none is served.
  Device* pinned() { return pinned_.get(); }
  // Maps what workers lend by descriptor; pins it, too, where a GPU is served.
  Device& lent(bool pin) {
    return pin && pinned_ != nullptr ? static_cast<Device&>(*pinned_) : host_;
  }

  // What moves bytes in and between these memories.
  PieceMover& mover() { return mover_ ? *mover_ : TheHostMover(); }

  // What packs to memory of the GPU; null where none is served.
  PieceMover* device_packer() { return device_packer_.get(); }

  // "host" or "cuda"; "cuda@0000:3b:00.0" where not all GPUs of the node reach
  // each other, with the first of those that this one reaches
  // (agent/cuda/gpu_domain.h).
  const std::string& kind() const { return kind_; }
  // For people; empty for the host. "NVIDIA H200 (GPU 0 at 0000:3b:00.0), 141
  // GB, compute capability 9.0, CUDA runtime 13.0, driver 13.1, context 512 MB,
  // MPS on".
  const std::string& description() const { return description_; }

  // Both null where no GPU is served.
  cuda::CudaRuntime* runtime() { return runtime_.get(); }
  cuda::CudaDevice* cuda() { return cuda_.get(); }
  // Number of that GPU.
  int index() const { return index_; }

 private:
  AgentDevice() = default;
  absl::Status OpenCuda(int index, const LoadCuda& load, uint32_t gpu_blocks);

  HostDevice host_;
  std::unique_ptr<cuda::CudaRuntime> runtime_;
  std::unique_ptr<cuda::CudaDevice> cuda_;
  std::unique_ptr<cuda::PinnedHostDevice> pinned_;
  std::unique_ptr<cuda::CudaPieceMover> mover_;
  std::unique_ptr<cuda::DevicePacker> device_packer_;
  int index_ = 0;
  std::string kind_ = "host";
  std::string description_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_AGENT_DEVICE_H_
