#ifndef SLUICE_COORDINATOR_PLANNER_VALIDATOR_GEOMETRY_H_
#define SLUICE_COORDINATOR_PLANNER_VALIDATOR_GEOMETRY_H_

// The validator's own geometry. It shares nothing with the planner: coverage is
// shown by volumes of disjoint boxes.

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/types/span.h"
#include "common/box.h"

namespace sluice::coordinator {

// Returns the positions of two boxes with a common element; nullopt if all are
// disjoint. Boxes have equal rank. Sort and sweep.
std::optional<std::pair<size_t, size_t>> FindCommon(
    absl::Span<const Box> boxes);

// Returns a part of `target` that none of `boxes` (disjoint) covers; nullopt if
// they cover it all.
std::optional<Box> FindUncovered(const Box& target,
                                 absl::Span<const Box> boxes);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_VALIDATOR_GEOMETRY_H_
