#ifndef SLUICE_COORDINATOR_PLANNER_SOURCE_SELECTOR_H_
#define SLUICE_COORDINATOR_PLANNER_SOURCE_SELECTOR_H_

// Who serves whom: chooses sources and relays so that the bytes leaving each
// rank and each node are level. What travels (boxes, samples) is not known
// here.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/planner/rank_sets.h"

namespace sluice::coordinator {

// Bytes that every rank of `missing` needs and every rank of `holders` has. The
// two sets are disjoint; holders is not empty.
struct Demand {
  int64_t bytes = 0;
  RankSets::Id holders = 0;
  RankSets::Id missing = 0;
  // Demands of one family (not -1) are pieces of one thing, in order, with the
  // same ranks; those of equal size are routed so that neighbours go together.
  int32_t family = -1;
};

// One delivery of a demand's bytes.
struct Leg {
  int32_t demand = 0;  // position in the input
  int32_t round = 0;   // 0: from what the source had; 1: a relay
  Rank source = kNoRank;
  Rank destination = kNoRank;
  // The leg that brought the bytes to the source of this one; -1 in round 0.
  int32_t parent = -1;
};

// Routes every demand to each of its missing ranks exactly once: a rank on a
// node with a holder is served by one of that node; else the bytes cross to one
// rank of the node and the others pull from there. Largest first to the least
// loaded, then bounded sweeps that move loads while that levels them. Legs come
// in order of demands; a parent comes before its relays.
std::vector<Leg> RouteDemands(const RankSets& sets,
                              absl::Span<const Demand> demands);

// Whether cutting the demand gives the choice of sources or relays more room.
bool WorthCutting(const RankSets& sets, const Demand& demand);

// Returns how large a demand worth cutting should be at most, so that loads can
// be levelled to a few percent and small ones stay whole.
int64_t ChunkBytes(const RankSets& sets, absl::Span<const Demand> demands);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_SOURCE_SELECTOR_H_
