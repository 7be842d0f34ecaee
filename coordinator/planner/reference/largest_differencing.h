#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_LARGEST_DIFFERENCING_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_LARGEST_DIFFERENCING_H_

// The largest differencing method (Karmarkar and Karp) for many parts.

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "coordinator/planner/reference/datapack.h"

namespace sluice::coordinator::reference {

// Divides the values into `parts` parts of nearly equal sums: starts from one
// partial division per value and joins, again and again, the two whose largest
// and smallest part differ most, the large parts of one to the small ones of
// the other. No part is empty. Parts by sum, descending; members ascending.
// About O(n (log n + parts)) time.
// Errors: INVALID_ARGUMENT - a value below 0, less than one part, fewer values
// than parts.
absl::StatusOr<Groups> LargestDifferencing(absl::Span<const int64_t> values,
                                           int32_t parts);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_LARGEST_DIFFERENCING_H_
