#include "coordinator/planner/rank_sets.h"

#include <algorithm>
#include <tuple>

namespace sluice::coordinator {

bool RankSets::Before(Rank a, Rank b) const {
  return std::make_tuple(NodeOf(a), a) < std::make_tuple(NodeOf(b), b);
}

RankSets::Id RankSets::Intern(std::vector<Rank> ranks) {
  std::sort(ranks.begin(), ranks.end(),
            [this](Rank a, Rank b) { return Before(a, b); });
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  const auto [it, inserted] =
      by_ranks_.try_emplace(std::move(ranks), static_cast<Id>(sets_.size()));
  if (!inserted) return it->second;
  Set& made = sets_.emplace_back();
  made.ranks = it->first;
  for (size_t i = 0; i < made.ranks.size(); ++i) {
    const int32_t node = NodeOf(made.ranks[i]);
    if (made.nodes.empty() || made.nodes.back().node != node) {
      made.nodes.push_back({node, static_cast<int32_t>(i), 0});
    }
    made.nodes.back().end = static_cast<int32_t>(i) + 1;
  }
  return it->second;
}

RankSets::Id RankSets::InternAscending(const std::vector<Rank>& ranks) {
  const auto it = by_ascending_.find(ranks);
  if (it != by_ascending_.end()) return it->second;
  const Id id = Intern(ranks);
  by_ascending_.emplace(ranks, id);
  return id;
}

RankSets::Id RankSets::Union(absl::Span<const Id> sets) {
  if (sets.size() == 1) return sets[0];
  std::vector<Rank> ranks;
  for (const Id id : sets) {
    ranks.insert(ranks.end(), Ranks(id).begin(), Ranks(id).end());
  }
  return Intern(std::move(ranks));
}

RankSets::Id RankSets::Minus(Id a, Id b) {
  const auto it = differences_.find({a, b});
  if (it != differences_.end()) return it->second;
  std::vector<Rank> ranks;
  for (const Rank rank : Ranks(a)) {
    if (!Contains(b, rank)) ranks.push_back(rank);
  }
  const Id id = Intern(std::move(ranks));
  differences_.emplace(std::make_pair(a, b), id);
  return id;
}

absl::Span<const Rank> RankSets::OnNode(Id id, int32_t node) const {
  const absl::Span<const NodeGroup> nodes = Nodes(id);
  const auto it = std::lower_bound(
      nodes.begin(), nodes.end(), node,
      [](const NodeGroup& group, int32_t n) { return group.node < n; });
  if (it == nodes.end() || it->node != node) return {};
  return Ranks(id).subspan(static_cast<size_t>(it->begin),
                           static_cast<size_t>(it->end - it->begin));
}

bool RankSets::Contains(Id id, Rank rank) const {
  const absl::Span<const Rank> ranks = Ranks(id);
  return std::binary_search(ranks.begin(), ranks.end(), rank,
                            [this](Rank a, Rank b) { return Before(a, b); });
}

}  // namespace sluice::coordinator
