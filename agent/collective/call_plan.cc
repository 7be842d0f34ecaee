#include "agent/collective/call_plan.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace sluice::agent {
namespace {

class Planner {
 public:
  Planner(int root, const std::vector<int>& nodes, int self)
      : root_(root), nodes_(nodes), self_(self) {
    std::vector<int> seen;
    for (int m = 0; m < size(); ++m) {
      const auto it = std::find(seen.begin(), seen.end(), NodeOf(m));
      if (it == seen.end()) {
        seen.push_back(NodeOf(m));
        groups_.push_back({m});
      } else {
        groups_[static_cast<size_t>(it - seen.begin())].push_back(m);
      }
    }
  }

  CallPlan Run(CollectiveKind kind) {
    switch (kind) {
      case CollectiveKind::kBroadcast:
        Broadcast();
        break;
      case CollectiveKind::kScatter:
        Scatter();
        break;
      case CollectiveKind::kGather:
        Gather();
        break;
      case CollectiveKind::kAllGather:
        AllGather();
        break;
      case CollectiveKind::kAllToAll:
        AllToAll();
        break;
      case CollectiveKind::kReduceScatter:
        ReduceScatter();
        break;
    }
    return std::move(plan_);
  }

 private:
  using Members = std::vector<int>;

  int size() const { return static_cast<int>(nodes_.size()); }
  int NodeOf(int m) const { return nodes_[static_cast<size_t>(m)]; }
  bool Near(int m) const { return NodeOf(m) == NodeOf(self_); }

  // The member of a node that stands for it in what concerns `item`.
  static int Delegate(const Members& node, int item) {
    return node[static_cast<size_t>(item) % node.size()];
  }

  void Broadcast() {
    // The chain: the root, then one member of each other node.
    Members chain = {root_};
    for (const Members& node : groups_) {
      if (NodeOf(node[0]) != NodeOf(root_)) chain.push_back(node[0]);
    }
    const auto mine = std::find_if(chain.begin(), chain.end(),
                                   [this](int m) { return Near(m); });
    if (NodeOf(root_) == NodeOf(self_)) {
      plan_.pulls.push_back({root_, false, 0, 0});
    } else if (*mine == self_) {
      plan_.receives.push_back({*std::prev(mine), 0, true});
    } else {
      plan_.pulls.push_back({*mine, true, 0, 0});
    }
    if (*mine == self_ && std::next(mine) != chain.end()) {
      plan_.sends.push_back({*std::next(mine), self_ != root_, 0});
    }
  }

  void Scatter() {
    if (Near(root_)) {
      plan_.pulls.push_back({root_, false, self_, 0});
    } else {
      plan_.receives.push_back({root_, 0, false});
    }
    if (self_ != root_) return;
    for (int m = 0; m < size(); ++m) {
      if (!Near(m)) plan_.sends.push_back({m, false, m});
    }
  }

  void Gather() {
    if (self_ != root_) {
      if (!Near(root_)) plan_.sends.push_back({root_, false, 0});
      return;
    }
    for (int m = 0; m < size(); ++m) {
      if (Near(m)) {
        plan_.pulls.push_back({m, false, 0, m});
      } else {
        plan_.receives.push_back({m, m, false});
      }
    }
  }

  void AllGather() {
    for (const Members& node : groups_) {
      if (!Near(node[0])) {
        plan_.sends.push_back({Delegate(node, self_), false, 0});
      }
    }
    for (int i = 0; i < size(); ++i) {
      const int m = (self_ + i) % size();
      if (Near(m)) {
        plan_.pulls.push_back({m, false, 0, m});
        continue;
      }
      const int delegate = Delegate(OwnNode(), m);
      if (delegate == self_) {
        plan_.receives.push_back({m, m, true});
      } else {
        plan_.pulls.push_back({delegate, true, m, m});
      }
    }
  }

  void AllToAll() {
    for (int i = 0; i < size(); ++i) {
      const int m = (self_ + i) % size();
      if (Near(m)) {
        plan_.pulls.push_back({m, false, self_, m});
      } else {
        plan_.sends.push_back({m, false, m});
        plan_.receives.push_back({m, m, false});
      }
    }
  }

  void ReduceScatter() {
    for (int m = 0; m < size(); ++m) {
      if (!Near(m) && Delegate(OwnNode(), m) == self_) {
        plan_.sums.push_back({m});
      }
    }
    for (const Members& node : groups_) {
      if (Near(node[0])) {
        plan_.summands.push_back({node, -1});
      } else {
        plan_.summands.push_back({{}, Delegate(node, self_)});
      }
    }
  }

  const Members& OwnNode() const {
    return *std::find_if(groups_.begin(), groups_.end(),
                         [this](const Members& n) { return Near(n[0]); });
  }

  const int root_;
  const std::vector<int>& nodes_;
  const int self_;
  std::vector<Members> groups_;  // by node, in order of their first members
  CallPlan plan_;
};

}  // namespace

std::vector<int> NumberNodes(const CollectiveMembers& members) {
  std::vector<int> nodes;
  for (const Peer& peer : members.peers) {
    const auto first = std::find_if(
        members.peers.begin(), members.peers.end(),
        [&peer](const Peer& other) { return other.node == peer.node; });
    nodes.push_back(static_cast<int>(first - members.peers.begin()));
  }
  return nodes;
}

std::vector<int> OtherMembers(const std::vector<int>& nodes, int self,
                              bool near) {
  std::vector<int> out;
  const int own = nodes[static_cast<size_t>(self)];
  for (size_t m = 0; m < nodes.size(); ++m) {
    if (static_cast<int>(m) != self && (nodes[m] == own) == near) {
      out.push_back(static_cast<int>(m));
    }
  }
  return out;
}

CallPlan MakeCallPlan(CollectiveKind kind, int root,
                      const std::vector<int>& nodes, int self) {
  return Planner(root, nodes, self).Run(kind);
}

}  // namespace sluice::agent
