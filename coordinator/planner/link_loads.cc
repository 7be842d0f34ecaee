#include "coordinator/planner/link_loads.h"

#include <algorithm>
#include <map>
#include <utility>

namespace sluice::coordinator {

Links::Links(const Topology& topology)
    : node_(topology.node_of_rank), card_(topology.node_of_rank.size(), -1) {
  std::map<std::pair<int32_t, int32_t>, int32_t> cards;  // (node, its card)
  for (size_t r = 0; r < node_.size(); ++r) {
    if (node_[r] < 0) continue;
    const auto node = static_cast<size_t>(node_[r]);
    if (node >= cards_of_node_.size()) cards_of_node_.resize(node + 1);
    const int32_t card =
        topology.card_of_rank.empty() ? 0 : topology.card_of_rank[r];
    const auto [it, inserted] =
        cards.try_emplace({node_[r], card}, static_cast<int32_t>(cards.size()));
    if (inserted) ++cards_of_node_[node];
    card_[r] = it->second;
  }
  num_cards_ = cards.size();
}

LinkLoads::LinkLoads(const Links& links)
    : links_(links),
      rank_(links.num_ranks()),
      card_(links.num_cards()),
      node_(links.num_nodes()) {}

void LinkLoads::Add(Rank rank, int64_t bytes, bool crossing) {
  rank_[static_cast<size_t>(rank.value())] += bytes;
  if (!crossing) return;
  card_[static_cast<size_t>(links_.CardOf(rank))] += bytes;
  node_[static_cast<size_t>(links_.NodeOf(rank))] += bytes;
}

int64_t LinkLoads::Of(Rank rank, bool crossing) const {
  const int64_t own = OfRank(rank);
  if (!crossing) return own;
  const int32_t node = links_.NodeOf(rank);
  const int64_t network =
      std::max(card_[static_cast<size_t>(links_.CardOf(rank))],
               CeilDiv(node_[static_cast<size_t>(node)], links_.CardsOf(node)));
  return own > room_ ? std::max(own, network) : network;
}

int64_t LinkLoads::Max() const {
  int64_t most = 0;
  for (const int64_t bytes : rank_) most = std::max(most, bytes);
  for (const int64_t bytes : card_) most = std::max(most, bytes);
  for (size_t n = 0; n < node_.size(); ++n) {
    if (node_[n] == 0) continue;
    most = std::max(most,
                    CeilDiv(node_[n], links_.CardsOf(static_cast<int32_t>(n))));
  }
  return most;
}

}  // namespace sluice::coordinator
