// In place of real_cuda_runtime.cc.

#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/cuda/load_cuda_runtime.h"
#include "tests/fakes/cuda/process_gpu.h"

namespace sluice::agent::cuda {

absl::StatusOr<std::unique_ptr<CudaRuntime>> LoadCudaRuntime() {
  // How many GPUs reach each other: see ProcessGpuRuntime.
  const char* text = std::getenv("SLUICE_FAKE_GPU_REACH");
  int reach = 0;
  if (text != nullptr && (!absl::SimpleAtoi(text, &reach) || reach < 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("SLUICE_FAKE_GPU_REACH: expected a number, found ", text));
  }
  return std::make_unique<ProcessGpuRuntime>(/*devices=*/8, reach);
}

}  // namespace sluice::agent::cuda
