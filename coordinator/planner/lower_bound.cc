#include "coordinator/planner/lower_bound.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "coordinator/planner/link_loads.h"

namespace sluice::coordinator {
namespace {

// Beyond this many distinct sets of senders each is compared with itself and
// with all together only, so that the bound stays linear. It is then weaker,
// not wrong.
constexpr size_t kMaxComparedSets = 256;

// Bytes that must leave a set of senders at least once, by that set.
using OutBySet = std::map<std::vector<int32_t>, int64_t>;

// The largest over sets S of (bytes held only inside S) / (links out of S).
class LargestShare {
 public:
  // `width[s]` is the number of links of sender s.
  explicit LargestShare(const std::vector<int64_t>& width) : width_(width) {}

  int64_t Of(const OutBySet& out) const {
    int64_t best = 0;
    int64_t total = 0;
    std::vector<int32_t> everybody;
    for (const auto& [senders, bytes] : out) {
      const int64_t inside =
          out.size() <= kMaxComparedSets ? HeldInside(out, senders) : bytes;
      best = std::max(best, CeilDiv(inside, WidthOf(senders)));
      total += bytes;
      everybody.insert(everybody.end(), senders.begin(), senders.end());
    }
    std::sort(everybody.begin(), everybody.end());
    everybody.erase(std::unique(everybody.begin(), everybody.end()),
                    everybody.end());
    if (everybody.empty()) return 0;
    return std::max(best, CeilDiv(total, WidthOf(everybody)));
  }

 private:
  static int64_t HeldInside(const OutBySet& out,
                            const std::vector<int32_t>& senders) {
    int64_t inside = 0;
    for (const auto& [other, bytes] : out) {
      if (other.size() <= senders.size() &&
          std::includes(senders.begin(), senders.end(), other.begin(),
                        other.end())) {
        inside += bytes;
      }
    }
    return inside;
  }
  int64_t WidthOf(const std::vector<int32_t>& senders) const {
    int64_t width = 0;
    for (const int32_t s : senders) width += width_[static_cast<size_t>(s)];
    return width;
  }

  const std::vector<int64_t>& width_;
};

// Bytes by set of ranks, as bytes by the sets of senders they make.
template <typename SendersOf>
OutBySet Convert(const std::vector<int64_t>& bytes_of_id,
                 const SendersOf& senders_of) {
  OutBySet out;
  for (size_t id = 0; id < bytes_of_id.size(); ++id) {
    if (bytes_of_id[id] == 0) continue;
    out[senders_of(static_cast<RankSets::Id>(id))] += bytes_of_id[id];
  }
  return out;
}

// Demands of equal ranks as one: (holders, missing, bytes).
using SetPair = std::tuple<RankSets::Id, RankSets::Id, int64_t>;
std::vector<SetPair> JoinEqual(absl::Span<const Demand> demands) {
  std::vector<SetPair> all;
  all.reserve(demands.size());
  for (const Demand& demand : demands) {
    all.emplace_back(demand.holders, demand.missing, demand.bytes);
  }
  std::sort(all.begin(), all.end());
  size_t kept = 0;
  for (size_t i = 1; i < all.size(); ++i) {
    if (std::get<0>(all[i]) == std::get<0>(all[kept]) &&
        std::get<1>(all[i]) == std::get<1>(all[kept])) {
      std::get<2>(all[kept]) += std::get<2>(all[i]);
    } else {
      all[++kept] = all[i];
    }
  }
  if (!all.empty()) all.resize(kept + 1);
  return all;
}

void Grow(std::vector<int64_t>& values, RankSets::Id id) {
  if (static_cast<size_t>(id) >= values.size()) {
    values.resize(static_cast<size_t>(id) + 1);
  }
}

int64_t MaxOf(const std::vector<int64_t>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

}  // namespace

LinkBounds BoundLinks(const RankSets& sets, absl::Span<const Demand> demands) {
  const Links links(sets.topology());
  std::vector<int64_t> rank_in(links.num_ranks());
  std::vector<int64_t> node_in(links.num_nodes());
  std::vector<int64_t> out_by_id, crossing_by_id;
  for (const auto& [holders, missing, bytes] : JoinEqual(demands)) {
    if (sets.Ranks(missing).empty()) continue;
    for (const Rank rank : sets.Ranks(missing)) {
      rank_in[static_cast<size_t>(rank.value())] += bytes;
    }
    Grow(out_by_id, holders);
    Grow(crossing_by_id, holders);
    out_by_id[static_cast<size_t>(holders)] += bytes;
    bool crosses = false;
    for (const RankSets::NodeGroup& group : sets.Nodes(missing)) {
      if (!sets.OnNode(holders, group.node).empty()) continue;
      node_in[static_cast<size_t>(group.node)] += bytes;
      crosses = true;
    }
    if (crosses) crossing_by_id[static_cast<size_t>(holders)] += bytes;
  }
  std::vector<int64_t> cards(links.num_nodes());
  for (size_t n = 0; n < cards.size(); ++n) {
    cards[n] = links.CardsOf(static_cast<int32_t>(n));
    if (node_in[n] > 0) node_in[n] = CeilDiv(node_in[n], cards[n]);
  }
  const OutBySet rank_out = Convert(out_by_id, [&](RankSets::Id id) {
    std::vector<int32_t> ranks;
    for (const Rank rank : sets.Ranks(id)) ranks.push_back(rank.value());
    std::sort(ranks.begin(), ranks.end());
    return ranks;
  });
  const OutBySet node_out = Convert(crossing_by_id, [&](RankSets::Id id) {
    std::vector<int32_t> nodes;
    for (const RankSets::NodeGroup& group : sets.Nodes(id)) {
      nodes.push_back(group.node);
    }
    return nodes;
  });
  const std::vector<int64_t> ones(links.num_ranks(), 1);
  return {std::max(MaxOf(rank_in), LargestShare(ones).Of(rank_out)),
          std::max(MaxOf(node_in), LargestShare(cards).Of(node_out))};
}

int64_t LowerBoundBytes(const RankSets& sets,
                        absl::Span<const Demand> demands) {
  const LinkBounds bounds = BoundLinks(sets, demands);
  return std::max(bounds.rank, bounds.card);
}

}  // namespace sluice::coordinator
