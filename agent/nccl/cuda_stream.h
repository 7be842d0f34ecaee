#ifndef SLUICE_AGENT_NCCL_CUDA_STREAM_H_
#define SLUICE_AGENT_NCCL_CUDA_STREAM_H_

// A GPU and its streams, as NCCL needs them.

#include <memory>

#include "absl/status/statusor.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/nccl/stream.h"

namespace sluice::agent {

// A GPU, as the runtime counts them; the runtime outlives it and its streams.
// Errors: what the runtime says of it.
absl::StatusOr<std::unique_ptr<NcclDevice>> MakeCudaNcclDevice(
    cuda::CudaRuntime& runtime, int device);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_CUDA_STREAM_H_
