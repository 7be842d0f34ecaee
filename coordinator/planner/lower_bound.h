#ifndef SLUICE_COORDINATOR_PLANNER_LOWER_BOUND_H_
#define SLUICE_COORDINATOR_PLANNER_LOWER_BOUND_H_

// How good any plan can be.

#include <cstdint>

#include "absl/types/span.h"
#include "coordinator/planner/demand.h"
#include "coordinator/planner/rank_sets.h"

namespace sluice::coordinator {

// Returns the bytes that the most loaded link (link_loads.h) carries in every
// plan: what a rank needs enters it; what a node needs and does not hold enters
// it, over its cards; what only some ranks (or nodes) hold leaves them at least
// once.
int64_t LowerBoundBytes(const RankSets& sets, absl::Span<const Demand> demands);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_LOWER_BOUND_H_
