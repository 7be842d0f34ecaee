#ifndef SLUICE_COORDINATOR_PLANNER_LOWER_BOUND_H_
#define SLUICE_COORDINATOR_PLANNER_LOWER_BOUND_H_

// How good any plan can be.

#include <cstdint>

#include "absl/types/span.h"
#include "coordinator/planner/demand.h"
#include "coordinator/planner/rank_sets.h"

namespace sluice::coordinator {

// Bytes that the most loaded link of a kind (link_loads.h) carries in every
// plan.
struct LinkBounds {
  // A rank's: what it needs enters it; what only some ranks hold leaves them at
  // least once.
  int64_t rank = 0;
  // A card's: what a node needs and does not hold enters it, over its cards;
  // what only some nodes hold leaves them at least once.
  int64_t card = 0;
};
LinkBounds BoundLinks(const RankSets& sets, absl::Span<const Demand> demands);

// Returns the larger of the two.
int64_t LowerBoundBytes(const RankSets& sets, absl::Span<const Demand> demands);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_LOWER_BOUND_H_
