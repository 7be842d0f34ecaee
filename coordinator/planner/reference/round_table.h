#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_ROUND_TABLE_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_ROUND_TABLE_H_

// First fit: which round is the first in which none of some ranks is busy.

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"

namespace sluice::coordinator::reference {

// Keeps a bit per (rank, round), so that finding a round for a task costs a
// word per member and 64 rounds instead of a look at every task placed.
class RoundTable {
 public:
  // Puts a task of these ranks into the first round in which none of them is
  // busy; they are from now on. Returns the round, 0-based.
  int32_t Place(absl::Span<const int32_t> ranks);
  int32_t num_rounds() const { return num_rounds_; }

 private:
  absl::flat_hash_map<int32_t, int32_t> number_of_;
  std::vector<std::vector<uint64_t>> busy_;  // by number: a bit per round
  std::vector<int32_t> numbers_;             // of the task being placed
  int32_t num_rounds_ = 0;
};

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_ROUND_TABLE_H_
