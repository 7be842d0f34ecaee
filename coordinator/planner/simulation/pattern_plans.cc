// GATHER_SCATTER and BROADCAST; TWO_STAGE is two_stage_plan.cc.

#include "coordinator/planner/simulation/pattern_plans.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/planner/simulation/leg_list.h"

namespace sluice::coordinator::simulation {
namespace {

Rank Lowest(absl::Span<const Rank> ranks) {
  return *std::min_element(ranks.begin(), ranks.end(), [](Rank a, Rank b) {
    return a.value() < b.value();
  });
}

// Bytes by (source, destination), in order.
using BytesByPair = std::map<std::pair<int32_t, int32_t>, int64_t>;

// Copies of what takers have already.
void AddLocalCopies(const Movement& movement, absl::Span<const Need> needs,
                    LegList& legs) {
  std::map<int32_t, int64_t> bytes;
  for (const Need& need : needs) {
    if (need.missing == need.takers) continue;
    for (const Rank rank : movement.sets->Ranks(need.takers)) {
      if (movement.sets->Contains(need.holders, rank)) {
        bytes[rank.value()] += need.bytes;
      }
    }
  }
  for (const auto& [rank, count] : bytes) {
    legs.Add(0, TransferKind::kLocalCopy, Rank(rank), Rank(rank), count,
             std::nullopt);
  }
}

// The needs of each unit that has any.
template <typename Function>
void ForEachUnit(const Movement& movement, const Function& function) {
  const absl::Span<const Need> all = movement.needs;
  for (size_t begin = 0; begin < all.size();) {
    size_t end = begin;
    while (end < all.size() && all[end].unit == all[begin].unit) ++end;
    function(all.subspan(begin, end - begin));
    begin = end;
  }
}

void GatherAndScatter(const Movement& movement, absl::Span<const Need> needs,
                      LegList& legs) {
  const RankSets& sets = *movement.sets;
  std::optional<Rank> root;
  for (const Need& need : needs) {
    if (sets.Ranks(need.missing).empty()) continue;
    const Rank lowest = Lowest(sets.Ranks(need.holders));
    if (!root.has_value() || lowest.value() < root->value()) root = lowest;
  }
  if (!root.has_value()) return;
  BytesByPair gathers, scatters;
  for (const Need& need : needs) {
    if (sets.Ranks(need.missing).empty()) continue;
    if (!sets.Contains(need.holders, *root)) {
      gathers[{Lowest(sets.Ranks(need.holders)).value(), root->value()}] +=
          need.bytes;
    }
    for (const Rank rank : sets.Ranks(need.missing)) {
      if (rank == *root) continue;
      scatters[{root->value(), rank.value()}] += need.bytes;
    }
  }
  std::optional<uint32_t> last;
  for (const auto& [ranks, bytes] : gathers) {
    last = legs.Add(0, TransferKind::kGather, Rank(ranks.first),
                    Rank(ranks.second), bytes, std::nullopt);
  }
  for (const auto& [ranks, bytes] : scatters) {
    legs.Add(1, TransferKind::kScatter, Rank(ranks.first), Rank(ranks.second),
             bytes, last);
  }
}

// The holder with the most missing takers on its node, then the fewest
// deliveries, then the lowest rank.
Rank Broadcaster(const RankSets& sets, const Need& need,
                 const std::vector<int64_t>& deliveries) {
  std::optional<Rank> best;
  std::pair<int64_t, int64_t> best_key;
  for (const Rank rank : sets.Ranks(need.holders)) {
    const auto near = std::ssize(sets.OnNode(need.missing, sets.NodeOf(rank)));
    const std::pair<int64_t, int64_t> key = {
        -near, deliveries[static_cast<size_t>(rank.value())]};
    if (!best.has_value() || key < best_key ||
        (key == best_key && rank.value() < best->value())) {
      best = rank;
      best_key = key;
    }
  }
  return *best;
}

}  // namespace

absl::StatusOr<TransferPlan> GatherScatterPlan(const Movement& movement) {
  LegList legs(*movement.topology);
  ForEachUnit(movement, [&](absl::Span<const Need> needs) {
    AddLocalCopies(movement, needs, legs);
    GatherAndScatter(movement, needs, legs);
  });
  return std::move(legs).Finish(kMaxPatternTransfers);
}

absl::StatusOr<TransferPlan> BroadcastPlan(const Movement& movement) {
  const RankSets& sets = *movement.sets;
  LegList legs(*movement.topology);
  std::vector<int64_t> deliveries(
      static_cast<size_t>(movement.topology->num_ranks()));
  ForEachUnit(movement, [&](absl::Span<const Need> needs) {
    AddLocalCopies(movement, needs, legs);
    BytesByPair bytes;
    for (const Need& need : needs) {
      if (sets.Ranks(need.missing).empty()) continue;
      const Rank source = Broadcaster(sets, need, deliveries);
      deliveries[static_cast<size_t>(source.value())] +=
          std::ssize(sets.Ranks(need.missing));
      for (const Rank rank : sets.Ranks(need.missing)) {
        bytes[{source.value(), rank.value()}] += need.bytes;
      }
    }
    for (const auto& [ranks, count] : bytes) {
      legs.Add(0, TransferKind::kBroadcast, Rank(ranks.first),
               Rank(ranks.second), count, std::nullopt);
    }
  });
  return std::move(legs).Finish(kMaxPatternTransfers);
}

}  // namespace sluice::coordinator::simulation
