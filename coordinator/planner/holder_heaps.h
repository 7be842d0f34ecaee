#ifndef SLUICE_COORDINATOR_PLANNER_HOLDER_HEAPS_H_
#define SLUICE_COORDINATOR_PLANNER_HOLDER_HEAPS_H_

// The least loaded rank of a set, asked again and again while loads grow.

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/planner/link_loads.h"
#include "coordinator/planner/rank_sets.h"

namespace sluice::coordinator {

// How loaded a rank's links are: the worst of those the bytes pass, then its
// own.
using LinkCost = std::pair<int64_t, int64_t>;

inline LinkCost CostOf(const LinkLoads& loads, Rank rank, bool crossing) {
  return {loads.Of(rank, crossing), loads.OfRank(rank)};
}

// Loads may only grow while one of these is in use: then a cost remembered is
// no more than the cost now, and only the top of a heap need be looked at anew.
class HolderHeaps {
 public:
  // Both must outlive the result.
  HolderHeaps(const RankSets& sets, const LinkLoads& loads)
      : sets_(sets), loads_(loads) {}

  // Returns the first of the cheapest ranks of a set, for bytes that cross.
  Rank Cheapest(RankSets::Id id);

 private:
  using Entry = std::pair<LinkCost, int32_t>;  // cost once, position in the set

  const RankSets& sets_;
  const LinkLoads& loads_;
  std::vector<std::vector<Entry>> heaps_;  // by set; empty = not made
};

// Returns the first of the cheapest of a few candidates.
Rank CheapestOf(const LinkLoads& loads, absl::Span<const Rank> candidates,
                bool crossing);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_HOLDER_HEAPS_H_
