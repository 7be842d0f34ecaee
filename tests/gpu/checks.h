#ifndef SLUICE_TESTS_GPU_CHECKS_H_
#define SLUICE_TESTS_GPU_CHECKS_H_

// What is checked on a GPU. Each check returns OK, or what was expected and
// found. They run on any CudaRuntime: on a machine's own by gpu_tests, on one
// made of host memory by checks_test, which proves the checks themselves.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/cuda_runtime.h"

namespace sluice::gpu_tests {

struct Settings {
  agent::cuda::CudaRuntime* runtime = nullptr;
  int device = 0;
  uint64_t seed = 1;
  // Elements of a large buffer; small on a GPU that is none.
  int64_t elements = int64_t{8} << 20;
  int64_t delay_nanoseconds = 200'000'000;
};

struct Check {
  std::string name;
  absl::Status (*run)(const Settings& settings);
  bool kernels = false;  // worth a run under compute-sanitizer
};

// All checks of one process.
const std::vector<Check>& LocalChecks();

// The kernels, against the host in double precision or bit by bit; random data,
// poisoned outputs. (kernel_checks.cc, value_checks.cc)
absl::Status CheckDevice(const Settings& settings);
absl::Status CheckCopies(const Settings& settings);
absl::Status CheckDigests(const Settings& settings);
absl::Status CheckCasts(const Settings& settings);
absl::Status CheckBlends(const Settings& settings);
absl::Status CheckQuantised(const Settings& settings);
// Pinned memory of the host, an agent's and a worker's. (space_checks.cc)
absl::Status CheckPinned(const Settings& settings);
// One stream waits for another whose kernel delays before it writes.
absl::Status CheckHandOver(const Settings& settings);

// Two processes that lend, adopt and hand over, over a connected stream socket.
// The lender serves until the socket closes. `delay` comes before each write.
absl::Status RunLender(const Settings& settings, int socket);
absl::Status RunBorrower(const Settings& settings, int socket);
// Asks the lender to fill its memory with `value` and returns where it is, once
// it has been filled.
absl::StatusOr<agent::cuda::SharedRange> BorrowFilled(const Settings& settings,
                                                      int socket,
                                                      uint8_t value);

}  // namespace sluice::gpu_tests

#endif  // SLUICE_TESTS_GPU_CHECKS_H_
