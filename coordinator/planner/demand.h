#ifndef SLUICE_COORDINATOR_PLANNER_DEMAND_H_
#define SLUICE_COORDINATOR_PLANNER_DEMAND_H_

#include <cstdint>

#include "coordinator/planner/rank_sets.h"

namespace sluice::coordinator {

// Bytes that every rank of `missing` needs and every rank of `holders` has. The
// two sets are disjoint; holders is not empty. What travels (boxes, samples) is
// not known here.
struct Demand {
  int64_t bytes = 0;
  RankSets::Id holders = 0;
  RankSets::Id missing = 0;
  // Demands of one family (not -1) are pieces of one thing, in order, with the
  // same ranks; those of equal size are routed so that neighbours go together.
  int32_t family = -1;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_DEMAND_H_
