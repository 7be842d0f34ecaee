#ifndef SLUICE_AGENT_NCCL_GPU_COPIES_H_
#define SLUICE_AGENT_NCCL_GPU_COPIES_H_

// Memory of a GPU in reduce groups: what workers lend by CUDA IPC, and the
// copies into and out of buckets, queued on a stream of the lane's own.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "agent/collective/reduce_copies.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/handles.h"
#include "agent/device/device.h"
#include "agent/device/mapped_memory.h"

namespace sluice::agent {

// The GPU of this agent; all outlive what is made with it.
struct GpuSeat {
  cuda::CudaRuntime& runtime;
  cuda::CudaDevice& device;
  int index = 0;  // as the runtime counts
};

// What a worker lends: see GpuReduceMemory of
// proto/sluice/v1/reduce_group.proto.
struct GpuMemoryOffer {
  cuda::SharedRange range;
  std::string bus_id;
  std::optional<cuda::IpcHandle> event;
};

// Maps it. Errors: as CudaDevice::AdoptRange and CudaEvent::Import;
// INVALID_ARGUMENT - it lies on another GPU.
absl::StatusOr<std::shared_ptr<MappedMemory>> AdoptGpuMemory(
    GpuSeat seat, const GpuMemoryOffer& offer);

// Copies take at most `max_blocks` blocks of threads at a time. `buckets` gives
// memory of the same GPU, and outlives it.
// Errors: what the runtime says.
absl::StatusOr<std::unique_ptr<ReduceCopies>> MakeGpuReduceCopies(
    GpuSeat seat, Device& buckets, uint32_t max_blocks);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_GPU_COPIES_H_
