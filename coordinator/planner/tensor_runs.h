#ifndef SLUICE_COORDINATOR_PLANNER_TENSOR_RUNS_H_
#define SLUICE_COORDINATOR_PLANNER_TENSOR_RUNS_H_

// Index sets of a pair's tensors as few arithmetic runs.

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/plan.h"

namespace sluice::coordinator {

// Returns runs that have each of the indices (ascending) exactly once. Runs may
// interleave: the gates and the up projections of a layer's experts are two of
// step 3, not one pair for each expert. Ordered by first index.
std::vector<TensorRun> FindRuns(absl::Span<const TensorIndex> indices);

// Positions [first, last) in a list, ascending and not touching.
using PositionRanges = std::vector<std::pair<int32_t, int32_t>>;

// Remembers the runs of parts of lists: many transfers move the same tensors.
class RunTable {
 public:
  // Returns the runs of what `ranges` takes of list number `list`.
  const std::vector<TensorRun>& Runs(int32_t list,
                                     const std::vector<TensorIndex>& tensors,
                                     const PositionRanges& ranges);

 private:
  absl::flat_hash_map<std::pair<int32_t, PositionRanges>,
                      std::vector<TensorRun>>
      known_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_TENSOR_RUNS_H_
