#ifndef SLUICE_COMMON_LAYOUT_COVERAGE_H_
#define SLUICE_COMMON_LAYOUT_COVERAGE_H_

// Two questions about geometry: do boxes cover a tensor, and do two views of a
// parameter share memory.

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/box.h"
#include "common/model.h"

namespace sluice {

// Returns a box of `shape` that no box of `boxes` covers; nullopt if they cover
// every element. Boxes have the rank of `shape`.
std::optional<Box> FindHole(absl::Span<const int64_t> shape,
                            std::vector<Box> boxes);

// Returns positions in `views`, all of one parameter of `shape` and inside it,
// of two that share an element of memory (the same one twice if it overlaps
// itself); nullopt if none do.
// Errors: RESOURCE_EXHAUSTED - views that are no boxes of the parameter and
// break up into more than `max_runs` runs.
absl::StatusOr<std::optional<std::pair<size_t, size_t>>> FindMemoryOverlap(
    absl::Span<const int64_t> shape, absl::Span<const View* const> views,
    int64_t max_runs = int64_t{1} << 26);

}  // namespace sluice

#endif  // SLUICE_COMMON_LAYOUT_COVERAGE_H_
