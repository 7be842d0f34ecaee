// Where no CUDA toolkit was found at build time.

#include "absl/status/status.h"
#include "agent/cuda/load_cuda_runtime.h"

namespace sluice::agent::cuda {

absl::StatusOr<std::unique_ptr<CudaRuntime>> LoadCudaRuntime() {
  return absl::UnimplementedError(
      "this program was built without CUDA: no toolkit was found");
}

}  // namespace sluice::agent::cuda
