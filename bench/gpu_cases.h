#ifndef SLUICE_BENCH_GPU_CASES_H_
#define SLUICE_BENCH_GPU_CASES_H_

// What is measured on a GPU: kernels and copies over large memories, each
// beside a plain copy of the device (or a read pass) in the same round, each
// verified.

#include <cstdint>
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
  // Divides the model's widths: 1 on a GPU.
  int64_t model_divisor = 1;
  int64_t small_tensors = 10'000;
  // Of the process that lends memory for the copy between processes; -1: left
  // out. It lends `bytes`.
  int lender_socket = -1;
};

struct GpuMeasurement {
  std::string name;
  std::string beside;   // what its rate is compared with
  double goal = 0;      // least ratio; 0: none
  int64_t bytes = 0;    // read plus written
  double gb_per_s = 0;  // medians of the rounds
  double beside_gb_per_s = 0;
  double ratio = 0;
};

// Errors: DATA_LOSS - a case gave other bytes than the host computes; those of
// the runtime.
absl::StatusOr<std::vector<GpuMeasurement>> RunGpuCases(
    const GpuBenchOptions& options);

}  // namespace sluice::bench

#endif  // SLUICE_BENCH_GPU_CASES_H_
