#include "coordinator/planner/simulation/link_graph.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace sluice::coordinator::simulation {

absl::StatusOr<Topology> TopologyOf(const LinkTable& table, int32_t num_ranks) {
  if (num_ranks < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("topology: expected at least 1 rank, found ", num_ranks));
  }
  Topology out;
  out.same_device_rate = table.device_copy_rate;
  out.same_node_rate = table.rank_rate;
  out.between_nodes_rate = table.card_rate;
  for (int32_t r = 0; r < num_ranks; ++r) {
    const int64_t place = r % table.ranks_per_node;
    out.node_of_rank.push_back(r / table.ranks_per_node);
    out.card_of_rank.push_back(static_cast<int32_t>(
        place * table.cards_per_node / table.ranks_per_node));
  }
  return out;
}

absl::StatusOr<LinkGraph> LinkGraph::Create(const Topology& topology,
                                            const LinkTable& table) {
  LinkGraph out;
  out.table_ = table;
  out.node_ = topology.node_of_rank;
  out.card_ = topology.card_of_rank;
  if (out.card_.empty()) out.card_.resize(out.node_.size(), 0);
  if (out.card_.size() != out.node_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("topology: expected cards of ", out.node_.size(),
                     " ranks, found ", out.card_.size()));
  }
  int32_t nodes = 0;
  for (size_t r = 0; r < out.node_.size(); ++r) {
    nodes = std::max(nodes, out.node_[r] + 1);
    out.cards_per_node_ = std::max(out.cards_per_node_, out.card_[r] + 1);
    if (out.card_[r] >= 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("topology: rank ", r, ": expected a card of 0 or more, ",
                     "found ", out.card_[r]));
  }
  const int64_t cards = int64_t{nodes} * out.cards_per_node_;
  if (cards > int64_t{1} << 30) {
    return absl::InvalidArgumentError(
        absl::StrCat("topology: expected at most 2^30 cards, found ", cards));
  }
  const auto ranks = static_cast<int32_t>(out.node_.size());
  const int32_t group =
      table.nodes_per_switch == 0 ? std::max(nodes, 1) : table.nodes_per_switch;
  out.rails_ = table.rails ? out.cards_per_node_ : 1;
  const int32_t switches = (nodes + group - 1) / group * out.rails_;
  // The cards of a full switch; one that is not full has as wide a way up.
  const double up = double{table.card_rate} * group * out.cards_per_node_ /
                    out.rails_ / table.oversubscription;
  out.AddLinks(ranks, table.device_copy_rate);
  out.AddLinks(ranks, table.rank_rate);
  out.AddLinks(ranks, table.rank_rate);
  out.AddLinks(static_cast<int32_t>(cards), table.card_rate);
  out.AddLinks(static_cast<int32_t>(cards), table.card_rate);
  out.AddLinks(switches, up);
  out.AddLinks(switches, up);
  return out;
}

void LinkGraph::AddLinks(int32_t count, double capacity) {
  first_.push_back(static_cast<int32_t>(capacities_.size()));
  capacities_.resize(capacities_.size() + static_cast<size_t>(count), capacity);
}

int32_t LinkGraph::SwitchOf(Rank rank) const {
  const int32_t group =
      table_.nodes_per_switch == 0 ? 0 : NodeOf(rank) / table_.nodes_per_switch;
  return group * rails_ + (table_.rails ? CardOf(rank) : 0);
}

LinkPath LinkGraph::Path(Rank source, Rank destination) const {
  LinkPath path;
  if (source == destination) {
    path.Add(Link(Kind::kMemory, source.value()));
    return path;
  }
  const bool crossing = NodeOf(source) != NodeOf(destination);
  if (!crossing || table_.cards_behind_rank_link) {
    path.Add(Link(Kind::kRankOut, source.value()));
    path.Add(Link(Kind::kRankIn, destination.value()));
  }
  if (!crossing) return path;
  path.Add(
      Link(Kind::kCardOut, NodeOf(source) * cards_per_node_ + CardOf(source)));
  path.Add(Link(Kind::kCardIn,
                NodeOf(destination) * cards_per_node_ + CardOf(destination)));
  if (SwitchOf(source) != SwitchOf(destination)) {
    path.Add(Link(Kind::kSwitchUp, SwitchOf(source)));
    path.Add(Link(Kind::kSwitchDown, SwitchOf(destination)));
  }
  return path;
}

double LinkGraph::Latency(Rank source, Rank destination) const {
  if (source == destination) return 0;
  return NodeOf(source) == NodeOf(destination) ? table_.node_latency
                                               : table_.network_latency;
}

LinkGraph::Kind LinkGraph::KindOf(int32_t link) const {
  int kind = kNumKinds - 1;
  while (first_[static_cast<size_t>(kind)] > link) --kind;
  return static_cast<Kind>(kind);
}

std::string LinkGraph::Name(int32_t link) const {
  const Kind kind = KindOf(link);
  const int32_t index = link - first_[static_cast<size_t>(kind)];
  const auto card = [&] {
    return absl::StrCat("node ", index / cards_per_node_, " card ",
                        index % cards_per_node_);
  };
  switch (kind) {
    case Kind::kMemory:
      return absl::StrCat("rank ", index, " memory");
    case Kind::kRankOut:
      return absl::StrCat("rank ", index, " out");
    case Kind::kRankIn:
      return absl::StrCat("rank ", index, " in");
    case Kind::kCardOut:
      return card() + " out";
    case Kind::kCardIn:
      return card() + " in";
    case Kind::kSwitchUp:
      return absl::StrCat("switch ", index, " up");
    case Kind::kSwitchDown:
      return absl::StrCat("switch ", index, " down");
  }
  return "?";
}

}  // namespace sluice::coordinator::simulation
