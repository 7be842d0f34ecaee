// In place of real_cuda_runtime.cc.

#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/cuda/load_cuda_runtime.h"
#include "common/status_macros.h"
#include "tests/fakes/cuda/process_gpu.h"

namespace sluice::agent::cuda {
namespace {

// Leaves the value where the environment has none.
template <typename Number>
absl::Status Read(const char* name, Number& value) {
  const char* text = std::getenv(name);
  if (text == nullptr) return absl::OkStatus();
  if (!absl::SimpleAtoi(text, &value) || value < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": expected a number, found ", text));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaRuntime>> LoadCudaRuntime() {
  ProcessGpuRuntime::Options options;
  SLUICE_RETURN_IF_ERROR(Read("SLUICE_FAKE_GPU_REACH", options.reach));
  SLUICE_RETURN_IF_ERROR(
      Read("SLUICE_FAKE_GPU_PIN_BYTES", options.most_pinned_bytes));
  return std::make_unique<ProcessGpuRuntime>(options);
}

}  // namespace sluice::agent::cuda
