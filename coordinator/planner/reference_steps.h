#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_STEPS_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_STEPS_H_

// The reference patterns (reference/gather_scatter.h, reference/broadcast.h)
// asked with a redistribution's input: what GATHER_SCATTER and BROADCAST
// decide, before it is written as point-to-point transfers.

#include <cstdint>
#include <vector>

#include "common/ids.h"
#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

// One collective. Holdings are positions in the input's list.
struct ReferenceStep {
  TransferKind kind = TransferKind::kUnspecified;
  // Steps of one stage have disjoint destinations and different sources.
  int32_t stage = 0;
  Rank root = kNoRank;
  // GATHER: who sends; SCATTER, BROADCAST: who receives. Ascending. The root
  // may be among them (it keeps what it has).
  std::vector<Rank> peers;
  // GATHER, SCATTER: holdings by peer; BROADCAST: one list for all peers.
  std::vector<std::vector<int32_t>> holdings;
};

// Per key: gather from the owners to the lowest of them, then scatter to who
// wants. Steps whose every byte is already there are left out; steps of several
// keys with the same ranks and samples are one. All gathers (stage 0) come
// before all scatters (stage 1). Linear.
std::vector<ReferenceStep> GatherScatterSteps(const RedistributionInput& input);

// Per tensor: the holder with the most missing ranks on its node, then the
// fewest deliveries so far, then the lowest rank broadcasts to all who miss it.
// Tensors of equal key, source and destinations share a step.
std::vector<ReferenceStep> BroadcastSteps(const RedistributionInput& input);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_STEPS_H_
