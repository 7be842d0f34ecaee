#ifndef SLUICE_BENCH_GPU_CASES_H_
#define SLUICE_BENCH_GPU_CASES_H_

// What is measured on a GPU: kernels and copies over large memories, each
// beside a plain copy of the device (or a read pass) in the same round, each
// verified.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/cuda_runtime.h"

namespace sluice::bench {

struct GpuBenchOptions {
  agent::cuda::CudaRuntime* runtime = nullptr;
  int device = 0;
  // Of the large copy, and about of each case; a multiple of 4 MiB.
  int64_t bytes = int64_t{1} << 30;
  int64_t repeats = 5;
  // Launches between two events.
  int64_t launches = 3;
  // Work of each case before it is measured.
  double warm_up_seconds = 0.2;
  // Blocks of threads for each multiprocessor: kernels are measured with each
  // number, and goals are of the first. Eight fill it; agents take one, where
  // --gpu-blocks does not say otherwise.
  std::vector<int64_t> blocks = {8, 1};
  // Divides the model's widths: 1 on a GPU.
  int64_t model_divisor = 1;
  int64_t small_tensors = 10'000;
  // Starts a process that lends `bytes` and returns its socket, for the copy
  // between processes; null: that is left out.
  std::function<absl::StatusOr<int>()> lender;
};

struct GpuMeasurement {
  std::string name;
  int64_t blocks = 0;  // for each multiprocessor; 0: copy engines
  // DATA_LOSS - other bytes than the host computes; those of the runtime. Below
  // nothing was measured then.
  absl::Status status;
  std::string beside;   // what its rate is compared with
  double goal = 0;      // least ratio; 0: none
  int64_t bytes = 0;    // read plus written
  double gb_per_s = 0;  // medians of the rounds
  double beside_gb_per_s = 0;
  double ratio = 0;
};

// Calls `each` with every case as it ends; a case that fails ends no other.
// Errors: those of the runtime - nothing can be measured, or nothing more: an
// error that the GPU does not recover from; cases that are left were not run.
absl::Status RunGpuCases(
    const GpuBenchOptions& options,
    const std::function<void(const GpuMeasurement&)>& each);

}  // namespace sluice::bench

#endif  // SLUICE_BENCH_GPU_CASES_H_
