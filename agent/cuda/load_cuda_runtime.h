#ifndef SLUICE_AGENT_CUDA_LOAD_CUDA_RUNTIME_H_
#define SLUICE_AGENT_CUDA_LOAD_CUDA_RUNTIME_H_

#include <memory>

#include "absl/status/statusor.h"
#include "agent/cuda/cuda_runtime.h"

namespace sluice::agent::cuda {

// Returns the machine's CUDA runtime, once a driver and a GPU have answered.
// Errors: UNIMPLEMENTED - this program was built without CUDA;
// FAILED_PRECONDITION - no driver, one too old, or no GPU, with the numbers
// found and expected.
absl::StatusOr<std::unique_ptr<CudaRuntime>> LoadCudaRuntime();

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_LOAD_CUDA_RUNTIME_H_
