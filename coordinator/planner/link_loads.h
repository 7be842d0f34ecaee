#ifndef SLUICE_COORDINATOR_PLANNER_LINK_LOADS_H_
#define SLUICE_COORDINATOR_PLANNER_LINK_LOADS_H_

// The links of a cluster and what a plan puts on them. Each way in and out
// there are: a rank's link (everything but copies inside it), a card's (what
// crosses between nodes) and a node's (what its cards carry together). A node's
// load counts as what each of its cards would carry if they shared it evenly.

#include <cstdint>
#include <vector>

#include "common/ids.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Which card and node each rank uses.
class Links {
 public:
  explicit Links(const Topology& topology);

  // -1: no such agent.
  int32_t NodeOf(Rank rank) const { return node_[At(rank)]; }
  // Cards are numbered over the whole cluster.
  int32_t CardOf(Rank rank) const { return card_[At(rank)]; }
  int64_t CardsOf(int32_t node) const {
    return cards_of_node_[static_cast<size_t>(node)];
  }
  size_t num_ranks() const { return node_.size(); }
  size_t num_cards() const { return num_cards_; }
  size_t num_nodes() const { return cards_of_node_.size(); }

 private:
  static size_t At(Rank rank) { return static_cast<size_t>(rank.value()); }

  std::vector<int32_t> node_, card_;
  std::vector<int64_t> cards_of_node_;
  size_t num_cards_ = 0;
};

// Bytes in one direction.
class LinkLoads {
 public:
  explicit LinkLoads(const Links& links);

  // Adds bytes that pass the rank's link, and the network if they cross.
  void Add(Rank rank, int64_t bytes, bool crossing);
  // Says how much a rank's own link may carry without harm: up to there Of()
  // leaves it out for what crosses, so that cards are levelled instead, which
  // are slower.
  void SetRoom(int64_t bytes) { room_ = bytes; }

  // Returns the most loaded of the links that such bytes pass.
  int64_t Of(Rank rank, bool crossing) const;
  int64_t OfRank(Rank rank) const {
    return rank_[static_cast<size_t>(rank.value())];
  }
  // Returns the most loaded link.
  int64_t Max() const;

 private:
  const Links& links_;
  int64_t room_ = 0;
  std::vector<int64_t> rank_, card_, node_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_LINK_LOADS_H_
