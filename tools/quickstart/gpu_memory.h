#ifndef SLUICE_TOOLS_QUICKSTART_GPU_MEMORY_H_
#define SLUICE_TOOLS_QUICKSTART_GPU_MEMORY_H_

// The quickstart's own side of memory on GPUs: weights that a worker lends, and
// reading what agents and workers hold there.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/handles.h"
#include "client/cpp/worker.h"

namespace sluice::quickstart {

// Weights in memory of one GPU, with the event that hands them over. The
// runtime outlives them. Not thread-safe.
class GpuWeights {
 public:
  // Errors: INVALID_ARGUMENT - no such GPU; RESOURCE_EXHAUSTED - no room there.
  static absl::StatusOr<std::unique_ptr<GpuWeights>> Allocate(
      agent::cuda::CudaRuntime& runtime, int device, int64_t bytes);

  // As Worker::LendDevice takes it.
  const DeviceBytes& lent() const { return lent_; }
  int64_t size() const { return lent_.size_bytes; }

  // Lets `change` work on a copy in memory of the host, queues the way back
  // and, behind it, the event's record: who is told afterwards waits for it.
  // The weights stay as they were where `change` fails.
  absl::Status Update(const std::function<absl::Status(std::byte* data,
                                                       int64_t bytes)>& change);

 private:
  GpuWeights(agent::cuda::CudaRuntime& runtime, int device,
             std::shared_ptr<agent::cuda::CudaMemory> memory,
             agent::cuda::CudaStream stream, agent::cuda::CudaEvent written,
             DeviceBytes lent)
      : runtime_(runtime),
        device_(device),
        memory_(std::move(memory)),
        stream_(std::move(stream)),
        written_(std::move(written)),
        lent_(std::move(lent)) {}

  agent::cuda::CudaRuntime& runtime_;
  const int device_;
  const std::shared_ptr<agent::cuda::CudaMemory> memory_;
  const agent::cuda::CudaStream stream_;
  const agent::cuda::CudaEvent written_;
  const DeviceBytes lent_;
};

// The bytes of a pinned version on GPU `device`, once what was queued to write
// them has ended. Errors: INVALID_ARGUMENT - cannot be mapped; others as CUDA
// says.
absl::StatusOr<std::vector<std::byte>> ReadGpu(
    agent::cuda::CudaRuntime& runtime, int device, const DeviceBytes& held);

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_GPU_MEMORY_H_
