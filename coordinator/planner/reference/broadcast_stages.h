#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_BROADCAST_STAGES_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_BROADCAST_STAGES_H_

// Which broadcasts run together.

#include <cstdint>
#include <vector>

#include "common/ids.h"
#include "coordinator/planner/rank_sets.h"
#include "coordinator/planner/reference/collective_step.h"

namespace sluice::coordinator::reference {

// The broadcasts of one source and one key, in order of first need.
struct BroadcastQueue {
  struct Step {
    RankSets::Id destinations = 0;
    std::vector<int32_t> samples;
  };
  Rank source = kNoRank;
  int32_t key = 0;
  std::vector<Step> steps;  // of different destinations, none empty
};

// Returns the steps stage by stage: each stage goes through the queues in
// order, skips sources that it has, and takes of each the first step left whose
// destinations it does not have.
std::vector<CollectiveStep> StageBroadcasts(std::vector<BroadcastQueue> queues,
                                            const RankSets& sets);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_BROADCAST_STAGES_H_
