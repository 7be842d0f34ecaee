#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_COLLECTIVE_STEP_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_COLLECTIVE_STEP_H_

// What the reference patterns GATHER_SCATTER and BROADCAST work on and decide:
// wanted (sample, key) tensors in, collectives out. AReaL's RedistribPlanner
// (realhf/system/redistributor.py) is where they come from.

#include <cstdint>
#include <vector>

#include "common/ids.h"
#include "common/plan.h"
#include "coordinator/planner/rank_sets.h"

namespace sluice::coordinator::reference {

// One (sample, key) tensor that somebody wants, as BROADCAST reads it. Samples
// and keys are numbers whose order is the order of planning.
struct WantedTensor {
  int32_t sample = 0;
  int32_t key = 0;
  RankSets::Id holders = 0;  // who has it; not empty
  RankSets::Id wanted = 0;   // who wants it; may include holders
};

// One collective: `keys` of the listed samples.
struct CollectiveStep {
  TransferKind kind = TransferKind::kUnspecified;  // gather, scatter, broadcast
  // Steps of one stage may run together. GATHER_SCATTER: gathers are stage 0,
  // scatters stage 1. BROADCAST: the steps of a stage have different roots and
  // disjoint destinations (a root may be another step's destination).
  int32_t stage = 0;
  Rank root = kNoRank;
  // GATHER: who sends; SCATTER, BROADCAST: who receives. Ascending. The root
  // may be among them (it keeps what it has).
  std::vector<Rank> peers;
  // Samples, ascending. GATHER, SCATTER: of each peer; BROADCAST: one list for
  // all peers.
  std::vector<std::vector<int32_t>> samples;
  std::vector<int32_t> keys;  // ascending; one for BROADCAST
};

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_COLLECTIVE_STEP_H_
