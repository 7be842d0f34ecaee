#ifndef SLUICE_COORDINATOR_PLANNER_SIMULATION_LINK_GRAPH_H_
#define SLUICE_COORDINATOR_PLANNER_SIMULATION_LINK_GRAPH_H_

// The links of a cluster, numbered, with their capacities: what a table says of
// one node, for every node of a topology.
//
//   in a rank        its memory (copies inside it)
//   in a node        the sender's link out, the receiver's link in
//   between nodes    the sender's card out, the receiver's card in; both ranks'
//                    links where cards stand behind them; the way up and down
//                    of their switches where those differ

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/link_table.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/simulation/fair_share.h"

namespace sluice::coordinator::simulation {

// Returns the topology of `num_ranks` ranks on nodes as the table says, in
// order, with its cards and rates. Errors: INVALID_ARGUMENT - less than a rank.
absl::StatusOr<Topology> TopologyOf(const LinkTable& table, int32_t num_ranks);

class LinkGraph {
 public:
  enum class Kind {
    kMemory,
    kRankOut,
    kRankIn,
    kCardOut,
    kCardIn,
    kSwitchUp,
    kSwitchDown,
  };
  static constexpr int kNumKinds = 7;

  // Cards are the topology's; without any, a node has one.
  // Errors: INVALID_ARGUMENT - a list of cards of another length than ranks, a
  // negative card, more than 2^30 cards.
  static absl::StatusOr<LinkGraph> Create(const Topology& topology,
                                          const LinkTable& table);

  // By link, bytes per second.
  const std::vector<double>& capacities() const { return capacities_; }
  // Both ranks exist.
  LinkPath Path(Rank source, Rank destination) const;
  double Latency(Rank source, Rank destination) const;

  Kind KindOf(int32_t link) const;
  // "rank 3 out", "node 2 card 1 in", "switch 0 up".
  std::string Name(int32_t link) const;

 private:
  LinkGraph() = default;

  // Number of a link of a kind, and the other way round.
  int32_t Link(Kind kind, int32_t index) const {
    return first_[static_cast<size_t>(kind)] + index;
  }
  int32_t NodeOf(Rank rank) const {
    return node_[static_cast<size_t>(rank.value())];
  }
  int32_t CardOf(Rank rank) const {
    return card_[static_cast<size_t>(rank.value())];
  }
  int32_t SwitchOf(Rank rank) const;
  void AddLinks(int32_t count, double capacity);  // of the next kind

  std::vector<double> capacities_;
  std::vector<int32_t> first_;  // link of each kind
  std::vector<int32_t> node_;   // by rank
  std::vector<int32_t> card_;   // by rank, numbered in its node
  int32_t cards_per_node_ = 1;
  int32_t rails_ = 1;  // switches for one group of nodes
  LinkTable table_;
};

}  // namespace sluice::coordinator::simulation

#endif  // SLUICE_COORDINATOR_PLANNER_SIMULATION_LINK_GRAPH_H_
