#ifndef SLUICE_TOOLS_QUICKSTART_LOOPBACK_RATE_H_
#define SLUICE_TOOLS_QUICKSTART_LOOPBACK_RATE_H_

// How fast TCP over loopback is between processes of this machine.

#include <cstdint>

#include "absl/status/statusor.h"

namespace sluice::quickstart {

// Sends `bytes` over each of `connections` pairs of processes at once, in
// messages of 4 MiB; returns the median over `rounds` of all bytes over the
// time, in 10^9 bytes per second.
// Errors: RESOURCE_EXHAUSTED - no descriptor or process left; INTERNAL - a
// process failed.
absl::StatusOr<double> MeasureLoopback(int connections, int64_t bytes,
                                       int rounds);

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_LOOPBACK_RATE_H_
