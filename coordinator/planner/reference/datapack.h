#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_DATAPACK_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_DATAPACK_H_

// Packing numbers into groups, as AReaL's realhf/base/datapack.py. Where that
// left equal values in the order of an unstable sort, here the lower index
// comes first.

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace sluice::coordinator::reference {

// Groups of indices of the values that were packed.
using Groups = std::vector<std::vector<int32_t>>;

// As ffd_allocate: takes values in descending order; each opens a new group
// while there are fewer than `min_groups` or none has room, else joins, of
// those with room, the group with the fewest members, then the smallest sum,
// then the lowest number. Groups in order of opening, members in order of
// joining.
// Errors: INVALID_ARGUMENT - a value below 0 or above `capacity`, fewer values
// than `min_groups`, `min_groups` below 0.
absl::StatusOr<Groups> FirstFitDecreasing(absl::Span<const int64_t> values,
                                          int64_t capacity, int32_t min_groups);

// As min_abs_diff_partition: cuts the values into `k` runs [begin, end) of at
// least `min_size`, by a dynamic programme that keeps one (largest, smallest)
// sum per state and so misses the least difference now and then. O(n^2 k).
// Errors: INVALID_ARGUMENT - k or min_size below 1, fewer than k * min_size
// values.
using Runs = std::vector<std::pair<int32_t, int32_t>>;
absl::StatusOr<Runs> MinDifferencePartition(absl::Span<const int64_t> values,
                                            int32_t k, int32_t min_size);

// Cuts the values into `k` runs so that largest less smallest sum is least;
// the runs of MinDifferencePartition() where that is as good, else those with
// the earliest cuts. Up to 64 values: O(n^4 k).
// Errors: as MinDifferencePartition; RESOURCE_EXHAUSTED - more values.
absl::StatusOr<Runs> LeastDifferencePartition(absl::Span<const int64_t> values,
                                              int32_t k, int32_t min_size);

// As reorder_to_balanced_batches: deals values in descending order to the batch
// with the smallest sum that has less than `batch_size`; batches by sum,
// descending.
struct BalancedBatches {
  std::vector<int32_t> indices;
  int64_t max_difference = 0;  // between sums of batches
};
// Errors: INVALID_ARGUMENT - `batch_size` below 1.
absl::StatusOr<BalancedBatches> ReorderToBalancedBatches(
    absl::Span<const int64_t> values, int32_t batch_size);

// Returns the indices by value, descending; equal ones ascending.
std::vector<int32_t> DescendingOrder(absl::Span<const int64_t> values);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_DATAPACK_H_
