#ifndef SLUICE_COORDINATOR_PLANNER_RANK_SETS_H_
#define SLUICE_COORDINATOR_PLANNER_RANK_SETS_H_

// Interned sets of ranks. Plans name the same few sets again and again (who
// holds this, who takes that), so a set is stored once, ordered by node, and
// everything else keeps its number.

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

// Not thread-safe. Spans stay valid as long as the object: sets never move.
// The topology must outlive it, and every rank must exist in it.
class RankSets {
 public:
  using Id = int32_t;
  // The ranks of one node: positions [begin, end) of Ranks(id).
  struct NodeGroup {
    int32_t node = 0;
    int32_t begin = 0;
    int32_t end = 0;
  };

  explicit RankSets(const Topology& topology) : topology_(topology) {}
  RankSets(const RankSets&) = delete;
  RankSets& operator=(const RankSets&) = delete;

  // Returns the number of the set of these ranks (any order, repeats allowed).
  Id Intern(std::vector<Rank> ranks);
  // The same for ranks that are ascending, asked for again and again.
  Id InternAscending(const std::vector<Rank>& ranks);
  // Returns the union of sets.
  Id Union(absl::Span<const Id> sets);
  // Returns the ranks of `a` that are not in `b`.
  Id Minus(Id a, Id b);

  // By (node, rank).
  absl::Span<const Rank> Ranks(Id id) const { return set(id).ranks; }
  // By node.
  absl::Span<const NodeGroup> Nodes(Id id) const { return set(id).nodes; }
  // Those on one node; empty if there are none.
  absl::Span<const Rank> OnNode(Id id, int32_t node) const;
  bool Contains(Id id, Rank rank) const;
  int32_t NodeOf(Rank rank) const {
    return topology_.node_of_rank[static_cast<size_t>(rank.value())];
  }
  const Topology& topology() const { return topology_; }

 private:
  struct Set {
    std::vector<Rank> ranks;
    std::vector<NodeGroup> nodes;
  };

  const Set& set(Id id) const { return sets_[static_cast<size_t>(id)]; }
  bool Before(Rank a, Rank b) const;

  const Topology& topology_;
  std::deque<Set> sets_;  // a deque: growing moves no set
  absl::flat_hash_map<std::vector<Rank>, Id> by_ranks_;
  absl::flat_hash_map<std::vector<Rank>, Id> by_ascending_;
  absl::flat_hash_map<std::pair<Id, Id>, Id> differences_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_RANK_SETS_H_
