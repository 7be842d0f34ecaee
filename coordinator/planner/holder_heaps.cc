#include "coordinator/planner/holder_heaps.h"

#include <algorithm>
#include <cstddef>
#include <functional>

namespace sluice::coordinator {

Rank HolderHeaps::Cheapest(RankSets::Id id) {
  const absl::Span<const Rank> ranks = sets_.Ranks(id);
  if (ranks.size() == 1) return ranks[0];
  const auto at = static_cast<size_t>(id);
  if (at >= heaps_.size()) heaps_.resize(at + 1);
  std::vector<Entry>& heap = heaps_[at];
  if (heap.empty()) {
    for (size_t i = 0; i < ranks.size(); ++i) {
      heap.emplace_back(CostOf(loads_, ranks[i], /*crossing=*/true),
                        static_cast<int32_t>(i));
    }
    std::make_heap(heap.begin(), heap.end(), std::greater<>());
  }
  while (true) {
    const auto position = static_cast<size_t>(heap.front().second);
    const LinkCost now = CostOf(loads_, ranks[position], /*crossing=*/true);
    if (now == heap.front().first) return ranks[position];
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.back().first = now;
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  }
}

Rank CheapestOf(const LinkLoads& loads, absl::Span<const Rank> candidates,
                bool crossing) {
  Rank best = candidates[0];
  LinkCost best_cost = CostOf(loads, best, crossing);
  for (const Rank rank : candidates.subspan(1)) {
    const LinkCost cost = CostOf(loads, rank, crossing);
    if (cost < best_cost) {
      best = rank;
      best_cost = cost;
    }
  }
  return best;
}

}  // namespace sluice::coordinator
