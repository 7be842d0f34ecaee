#ifndef SLUICE_COORDINATOR_PLANNER_SOURCE_SELECTOR_H_
#define SLUICE_COORDINATOR_PLANNER_SOURCE_SELECTOR_H_

// Who serves whom: chooses sources and relays so that the bytes leaving each
// rank, card and node are level. What travels (boxes, samples) is not known
// here.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/planner/demand.h"
#include "coordinator/planner/rank_sets.h"

namespace sluice::coordinator {

// One delivery of a demand's bytes.
struct Leg {
  int32_t demand = 0;  // position in the input
  int32_t round = 0;   // 0: from what the source had; else its parent's + 1
  Rank source = kNoRank;
  Rank destination = kNoRank;
  // The leg that brought the bytes to the source of this one; -1 in round 0.
  int32_t parent = -1;
};

// Routes every demand to each of its missing ranks exactly once. A rank on a
// node with a holder is served inside the node; to every other node the bytes
// cross once, to one rank, and the others pull from there. Holders serve as
// long as no link of theirs rises above the lower bound; from there on those
// who have got the bytes pass them on, where that is less loaded. Largest first
// to the least loaded, then bounded sweeps over what is still above. Legs come
// in order of demands; a parent comes before what it feeds.
std::vector<Leg> RouteDemands(const RankSets& sets,
                              absl::Span<const Demand> demands);

// Whether cutting the demand gives the choice of sources or relays more room.
bool WorthCutting(const RankSets& sets, const Demand& demand);

// Returns how large a demand worth cutting should be at most, so that loads can
// be levelled to a few percent and small ones stay whole.
int64_t ChunkBytes(const RankSets& sets, absl::Span<const Demand> demands);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_SOURCE_SELECTOR_H_
