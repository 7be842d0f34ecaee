// Plans of collectives, carried out on names of pieces: every piece comes to
// everyone who needs it, once, and crosses between nodes no more than promised.

#include "agent/collective/call_plan.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/collective/collective.h"
#include "common/command.h"

namespace sluice::agent {
namespace {

using Kind = CollectiveKind;

// inputs[second] of member `first`.
using Piece = std::pair<int, int>;
// outputs[second] of member `first`.
using Place = std::pair<int, int>;

// All members' plans of one call, and what they do.
class Call {
 public:
  Call(Kind kind, int root, std::vector<int> nodes)
      : kind_(kind), root_(root), nodes_(std::move(nodes)) {
    for (int m = 0; m < size(); ++m) {
      plans_.push_back(MakeCallPlan(kind, root, nodes_, m));
    }
  }

  // What is wrong; empty for nothing.
  std::string Problem() {
    if (auto problem = CheckStreams(); !problem.empty()) return problem;
    if (auto problem = CheckRelays(); !problem.empty()) return problem;
    return kind_ == Kind::kReduceScatter ? CheckSums() : CheckPieces();
  }
  std::string Text() const {
    return absl::StrCat(CollectiveKindName(kind_), " root ", root_, " nodes ",
                        absl::StrJoin(nodes_, ","));
  }

 private:
  int size() const { return static_cast<int>(nodes_.size()); }
  const CallPlan& Plan(int m) const { return plans_[static_cast<size_t>(m)]; }
  bool Near(int a, int b) const {
    return nodes_[static_cast<size_t>(a)] == nodes_[static_cast<size_t>(b)];
  }

  // Both ends know of each stream; it crosses between nodes, and there is one
  // each way at most.
  std::string CheckStreams() const {
    std::multiset<std::pair<int, int>> sent, received;
    for (int m = 0; m < size(); ++m) {
      for (const auto& send : Plan(m).sends) sent.insert({m, send.to});
      for (const auto& sum : Plan(m).sums) sent.insert({m, sum.to});
      for (const auto& receive : Plan(m).receives) {
        received.insert({receive.from, m});
      }
      for (const auto& summand : Plan(m).summands) {
        if (summand.from >= 0) received.insert({summand.from, m});
      }
    }
    if (sent != received) return "what is sent is not what is received";
    for (const auto& [from, to] : sent) {
      if (Near(from, to)) return absl::StrCat(from, " sends within a node");
      if (sent.count({from, to}) > 1) {
        return absl::StrCat("two streams from ", from, " to ", to);
      }
    }
    return "";
  }

  // Who follows a member follows what that one says it relays.
  std::string CheckRelays() const {
    for (int m = 0; m < size(); ++m) {
      for (const auto& pull : Plan(m).pulls) {
        if (!Near(m, pull.from)) return absl::StrCat(m, " reads another node");
        if (!pull.from_output) continue;
        const auto& receives = Plan(pull.from).receives;
        if (std::none_of(receives.begin(), receives.end(), [&](const auto& r) {
              return r.relayed && r.output == pull.index;
            })) {
          return absl::StrCat(m, " follows what ", pull.from,
                              " does not relay");
        }
      }
    }
    return "";
  }

  // What a kind promises, in the words of CollectiveKind.
  std::map<Place, Piece> Wanted() const {
    std::map<Place, Piece> out;
    for (int m = 0; m < size(); ++m) {
      if (kind_ == Kind::kBroadcast) out[{m, 0}] = {root_, 0};
      if (kind_ == Kind::kScatter) out[{m, 0}] = {root_, m};
      if (kind_ == Kind::kGather) out[{root_, m}] = {m, 0};
      for (int k = 0; k < size(); ++k) {
        if (kind_ == Kind::kAllGather) out[{k, m}] = {m, 0};
        if (kind_ == Kind::kAllToAll) out[{m, k}] = {k, m};
      }
    }
    return out;
  }

  // What a range holds: an input, or an output that is known.
  std::optional<Piece> Holds(int member, bool output, int index) const {
    if (!output) return Piece{member, index};
    const auto it = have_.find({member, index});
    if (it == have_.end()) return std::nullopt;
    return it->second;
  }
  std::optional<Piece> Sent(int from, int to) const {
    for (const auto& send : Plan(from).sends) {
      if (send.to == to) return Holds(from, send.from_output, send.index);
    }
    return std::nullopt;
  }

  // Writes what can be known now; returns whether that is more than before.
  bool Move() {
    const size_t before = have_.size();
    for (int m = 0; m < size(); ++m) {
      for (const auto& pull : Plan(m).pulls) {
        const auto piece = Holds(pull.from, pull.from_output, pull.index);
        if (piece.has_value()) have_[{m, pull.output}] = *piece;
      }
      for (const auto& receive : Plan(m).receives) {
        const auto piece = Sent(receive.from, m);
        if (piece.has_value()) have_[{m, receive.output}] = *piece;
      }
    }
    return have_.size() > before;
  }

  std::string CheckPieces() {
    std::set<Place> written;
    for (int m = 0; m < size(); ++m) {
      for (const auto& pull : Plan(m).pulls) {
        if (!written.insert({m, pull.output}).second) return "written twice";
      }
      for (const auto& receive : Plan(m).receives) {
        if (!written.insert({m, receive.output}).second) return "written twice";
      }
    }
    while (Move()) {
    }
    if (have_.size() != written.size()) return "something waits for itself";
    if (have_ != Wanted()) return "a piece is not where it is wanted";
    return CheckCrossings();
  }

  // Times that each piece comes into each node.
  std::string CheckCrossings() const {
    std::map<std::pair<Piece, int>, int> crossings;
    for (int m = 0; m < size(); ++m) {
      for (const auto& receive : Plan(m).receives) {
        const int node = nodes_[static_cast<size_t>(m)];
        ++crossings[{have_.at({m, receive.output}), node}];
      }
    }
    for (const auto& [what, count] : crossings) {
      if (count != 1) return absl::StrCat("a piece crosses ", count, " times");
    }
    return "";
  }

  // Each member adds one input of everyone, node by node in one order, and a
  // node's part of a sum crosses once.
  std::string CheckSums() const {
    for (int m = 0; m < size(); ++m) {
      std::vector<int> added;
      std::set<int> senders;
      for (const auto& summand : Plan(m).summands) {
        if (summand.members.empty() == (summand.from < 0)) return "no summand";
        for (const int k : summand.members) {
          if (!Near(k, m)) return absl::StrCat(m, " reads another node");
          added.push_back(k);
        }
        if (summand.from < 0) continue;
        if (!senders.insert(summand.from).second) return "a sum counts twice";
        for (int k = 0; k < size(); ++k) {
          if (Near(k, summand.from)) added.push_back(k);
        }
      }
      if (added != ByNode()) return absl::StrCat(m, " adds the wrong inputs");
    }
    return "";
  }

  // All members, node by node in the order of their first members.
  std::vector<int> ByNode() const {
    std::vector<int> out;
    for (int m = 0; m < size(); ++m) {
      if (std::find(out.begin(), out.end(), m) != out.end()) continue;
      for (int k = m; k < size(); ++k) {
        if (Near(m, k)) out.push_back(k);
      }
    }
    return out;
  }

  const Kind kind_;
  const int root_;
  const std::vector<int> nodes_;
  std::vector<CallPlan> plans_;
  std::map<Place, Piece> have_;
};

// Checks all kinds, with every root where there is one.
void CheckAll(const std::vector<int>& nodes) {
  for (const Kind kind :
       {Kind::kBroadcast, Kind::kScatter, Kind::kGather, Kind::kAllGather,
        Kind::kAllToAll, Kind::kReduceScatter}) {
    const bool rooted = kind == Kind::kBroadcast || kind == Kind::kScatter ||
                        kind == Kind::kGather;
    const int roots = rooted ? static_cast<int>(nodes.size()) : 1;
    for (int root = 0; root < roots; ++root) {
      Call call(kind, root, nodes);
      const std::string problem = call.Problem();
      if (problem.empty()) continue;
      FAIL_CHECK(call.Text() << ": " << problem);
    }
  }
}

TEST_CASE("groups of up to five members, in any order on any nodes",
          "[collective]") {
  for (int members = 1; members <= 5; ++members) {
    int cases = 1;
    for (int m = 0; m < members; ++m) cases *= members;
    for (int number = 0; number < cases; ++number) {
      std::vector<int> nodes;
      for (int rest = number, m = 0; m < members; ++m, rest /= members) {
        nodes.push_back(rest % members);
      }
      CheckAll(nodes);
    }
  }
  SUCCEED("all of them");
}

TEST_CASE("large groups on nodes of any number", "[collective]") {
  std::mt19937 random(7);
  for (int round = 0; round < 100; ++round) {
    const int num_nodes = std::uniform_int_distribution<>(1, 12)(random);
    std::vector<int> nodes(
        std::uniform_int_distribution<size_t>(6, 40)(random));
    for (int& node : nodes) {
      node = std::uniform_int_distribution<>(0, num_nodes - 1)(random) * 1000 -
             3000;
    }
    CheckAll(nodes);
  }
  SUCCEED("all of them");
}

TEST_CASE("a broadcast goes down one chain of nodes", "[collective]") {
  const std::vector<int> nodes = {0, 1, 0, 2, 1, 3};
  for (int root = 0; root < 6; ++root) {
    size_t crossings = 0;
    for (int m = 0; m < 6; ++m) {
      const CallPlan plan = MakeCallPlan(Kind::kBroadcast, root, nodes, m);
      CHECK(plan.sends.size() <= 1);
      crossings += plan.sends.size();
    }
    CHECK(crossings == 3);
  }
}

TEST_CASE("what crosses in an all-gather is spread over a node's members",
          "[collective]") {
  const std::vector<int> nodes = {0, 0, 0, 0, 1, 1, 1, 1};
  for (int m = 0; m < 8; ++m) {
    CHECK(MakeCallPlan(Kind::kAllGather, 0, nodes, m).receives.size() == 1);
    CHECK(MakeCallPlan(Kind::kReduceScatter, 0, nodes, m).sums.size() == 1);
  }
}

TEST_CASE("nodes are numbered by where they are equal", "[collective]") {
  CollectiveMembers members;
  for (const char* node : {"b", "a", "b", "", "a", ""}) {
    members.peers.emplace_back().node = node;
  }
  const std::vector<int> nodes = NumberNodes(members);
  CHECK(nodes == std::vector<int>{0, 1, 0, 3, 1, 3});
  CHECK(OtherMembers(nodes, 2, /*near=*/true) == std::vector<int>{0});
  CHECK(OtherMembers(nodes, 2, /*near=*/false) == std::vector<int>{1, 3, 4, 5});
  CHECK(OtherMembers({5}, 0, /*near=*/true).empty());
  CHECK(OtherMembers({5}, 0, /*near=*/false).empty());
}

}  // namespace
}  // namespace sluice::agent
