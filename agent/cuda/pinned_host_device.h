#ifndef SLUICE_AGENT_CUDA_PINNED_HOST_DEVICE_H_
#define SLUICE_AGENT_CUDA_PINNED_HOST_DEVICE_H_

// Memory of the host that other processes can map and the GPU reaches.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/device/device.h"
#include "agent/device/host_device.h"
#include "agent/device/mapped_memory.h"
#include "agent/device/unique_fd.h"

namespace sluice::agent::cuda {

// HostDevice's memory, pinned. Thread-safe. The runtime outlives the device and
// all its memory.
class PinnedHostDevice final : public Device {
 public:
  PinnedHostDevice(CudaRuntime* runtime, int device)
      : runtime_(runtime), device_(device) {}

  std::string Kind() const override { return "pinned"; }
  // Errors: HostDevice's; RESOURCE_EXHAUSTED - no more memory can be pinned.
  absl::StatusOr<std::shared_ptr<MappedMemory>> Allocate(
      int64_t bytes, absl::string_view label) override;
  // Pins what others lend: the pages stay as long as a result lives. Errors: as
  // Allocate.
  absl::StatusOr<std::shared_ptr<MappedMemory>> Adopt(
      UniqueFd descriptor) override;

 private:
  absl::StatusOr<std::shared_ptr<MappedMemory>> Pin(
      std::shared_ptr<MappedMemory> host, absl::string_view what);

  CudaRuntime* const runtime_;
  const int device_;
  HostDevice host_;
};

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_PINNED_HOST_DEVICE_H_
