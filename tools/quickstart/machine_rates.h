#ifndef SLUICE_TOOLS_QUICKSTART_MACHINE_RATES_H_
#define SLUICE_TOOLS_QUICKSTART_MACHINE_RATES_H_

// What this machine can do, measured now: the rates that bounds are made of.
// All cores (at most eight) are busy in each measurement, memory is touched
// before, and each figure is the median of `rounds`.

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sluice::quickstart {

struct RateOptions {
  // Memory each core copies or reads in a round.
  int64_t bytes_per_core = int64_t{192} << 20;
  // Connections over loopback at once, and what each carries in a round in
  // messages of 4 MiB.
  int connections = 4;
  int64_t bytes_per_connection = int64_t{256} << 20;
  int rounds = 5;
};

// In 10^9 bytes per second, summed over what ran at once.
struct MachineRates {
  // Copies between two memfd mappings: the better of libc's memcpy and a loop
  // of non-temporal stores.
  double copy_gb_per_s = 0;
  // Digests of memory that is in no cache.
  double read_gb_per_s = 0;
  // TCP over loopback between processes.
  double loopback_gb_per_s = 0;
};

// Forks processes that end before it returns. Errors: RESOURCE_EXHAUSTED - no
// memory, descriptor or process left.
absl::StatusOr<MachineRates> MeasureMachine(const RateOptions& options = {});

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_MACHINE_RATES_H_
