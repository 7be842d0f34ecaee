#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_BROADCAST_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_BROADCAST_H_

// Pattern BROADCAST, with its concurrent stages.

#include <vector>

#include "absl/types/span.h"
#include "coordinator/planner/rank_sets.h"
#include "coordinator/planner/reference/collective_step.h"

namespace sluice::coordinator::reference {

// Tensor by tensor, in order: the holder with the most missing ranks on its
// node, then the fewest deliveries given to it so far, then the lowest rank
// broadcasts to all who miss the tensor. Tensors of equal key, source and
// destinations share a step.
//
// Stages: a stage goes through the (source, key) pairs in order of first need,
// skips sources that it has already, and takes of each the first step whose
// destinations it does not have yet.
//
// `tensors` is ordered by (sample, key), each pair once. Staging costs, per
// stage, one look at each distinct set of destinations and at the pairs before
// the stage is full.
//
// The reference counts all loads anew for every choice and forgets where its
// stages end.
std::vector<CollectiveStep> Broadcast(absl::Span<const WantedTensor> tensors,
                                      RankSets& sets);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_BROADCAST_H_
