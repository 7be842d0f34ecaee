#ifndef SLUICE_COMMON_REDUCE_REPORT_H_
#define SLUICE_COMMON_REDUCE_REPORT_H_

// What an agent tells of its workers' reduce groups: ReduceGroupReport of
// proto/sluice/v1/membership_service.proto.

#include <cstdint>
#include <string>
#include <vector>

#include "common/ids.h"

namespace sluice {

enum class ReduceGroupState {
  kUnspecified = 0,
  kJoining = 1,
  kOpen = 2,
  kEnding = 3,
  kEnded = 4,
};

// One member's part in a group, as its agent sees it.
struct ReduceGroupReport {
  std::string name;
  // Members in order, as the worker gave them: by name or by rank.
  std::vector<std::string> agents;
  std::vector<Rank> ranks;
  bool average = false;  // a sum otherwise
  ReduceGroupState state = ReduceGroupState::kUnspecified;
  int64_t requests_waiting = 0;
  int64_t collectives_sent = 0;
  int64_t collectives_done = 0;
  int64_t bytes_reduced = 0;  // input of those done
  int64_t bucket_bytes = 0;   // memory held
  // Why it ends or has ended, or what its join waits for; empty for nothing.
  std::string error;
  friend bool operator==(const ReduceGroupReport&,
                         const ReduceGroupReport&) = default;
};

}  // namespace sluice

#endif  // SLUICE_COMMON_REDUCE_REPORT_H_
