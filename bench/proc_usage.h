#ifndef SLUICE_BENCH_PROC_USAGE_H_
#define SLUICE_BENCH_PROC_USAGE_H_

// What a process uses, as /proc tells.

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace sluice::bench {

// Processor time of all threads, in steps of the kernel's tick (10 ms).
// Errors: NOT_FOUND - no such process.
absl::StatusOr<absl::Duration> CpuTime(pid_t pid);

struct MemoryUsage {
  // Resident anonymous memory: heap, stacks, buffers.
  int64_t anonymous_bytes = 0;
  // Memory files it holds open, once each, but for those named as told.
  int64_t other_file_bytes = 0;
};

// Memory files whose name holds one of `excluded` are left out.
// Errors: NOT_FOUND - no such process.
absl::StatusOr<MemoryUsage> ReadMemoryUsage(
    pid_t pid, const std::vector<std::string>& excluded);

}  // namespace sluice::bench

#endif  // SLUICE_BENCH_PROC_USAGE_H_
