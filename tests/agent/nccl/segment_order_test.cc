#include "agent/nccl/segment_order.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "common/ids.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::IsOk;
using testing::StatusIs;

constexpr Epoch kEpoch{7};

SegmentId Id(uint64_t number) { return {kEpoch, number}; }

TEST_CASE("segments start one after the other, however they come", "[nccl]") {
  SegmentOrder order(kEpoch);
  CHECK_OK(order.Admit(Id(5), 2));
  CHECK(order.Start() == std::nullopt);
  CHECK(order.Stalled() == SegmentOrder::Stall{.missing = 2, .waiting = 5});
  CHECK_OK(order.Admit(Id(2), std::nullopt));
  CHECK(order.Start() == Id(2));
  CHECK(order.Start() == std::nullopt);
  CHECK(order.Stalled() == std::nullopt);
  CHECK_THAT(order.End(Id(5)),
             StatusIs(absl::StatusCode::kFailedPrecondition, "5"));
  CHECK_OK(order.End(Id(2)));
  CHECK(order.Start() == Id(5));
}

TEST_CASE("repeated commands change nothing", "[nccl]") {
  SegmentOrder order(kEpoch);
  for (int i = 0; i < 2; ++i) CHECK_OK(order.Admit(Id(1), std::nullopt));
  CHECK(order.Start() == Id(1));
  CHECK_OK(order.Admit(Id(1), std::nullopt));
  CHECK_OK(order.End(Id(1)));
  CHECK_OK(order.Admit(Id(1), std::nullopt));
  CHECK_OK(order.Void(Id(1), std::nullopt));
  CHECK(order.Start() == std::nullopt);
  CHECK(order.Stalled() == std::nullopt);
}

TEST_CASE("a void segment is passed, but not what came before it", "[nccl]") {
  SegmentOrder order(kEpoch);
  CHECK_OK(order.Admit(Id(1), std::nullopt));
  CHECK_OK(order.Admit(Id(3), 2));
  CHECK(order.Start() == Id(1));
  // Its own command was lost; 1 still runs.
  CHECK_OK(order.Void(Id(2), 1));
  CHECK(order.Start() == std::nullopt);
  CHECK_OK(order.End(Id(1)));
  CHECK(order.Start() == Id(3));
}

TEST_CASE("what cannot be is refused", "[nccl]") {
  SegmentOrder order(kEpoch);
  CHECK_OK(order.Admit(Id(4), 2));
  // Of one epoch behind, of one ahead, before itself, of nobody.
  CHECK_THAT(order.Admit({Epoch(6), 9}, 4),
             StatusIs(absl::StatusCode::kAborted, "9"));
  CHECK_THAT(order.Admit({Epoch(8), 9}, 4),
             StatusIs(absl::StatusCode::kInvalidArgument, "9"));
  CHECK_THAT(order.Admit(Id(9), 9),
             StatusIs(absl::StatusCode::kInvalidArgument, "9"));
  // Two after one.
  CHECK_THAT(order.Admit(Id(5), 2),
             StatusIs(absl::StatusCode::kFailedPrecondition, "segment 4"));
  CHECK_OK(order.Admit(Id(2), std::nullopt));
  CHECK(order.Start() == Id(2));
  CHECK_THAT(order.Admit(Id(3), std::nullopt),
             StatusIs(absl::StatusCode::kFailedPrecondition, "segment 3"));
}

TEST_CASE("a later epoch ends the old one", "[nccl]") {
  SegmentOrder order(kEpoch);
  CHECK_OK(order.Admit(Id(1), std::nullopt));
  CHECK_OK(order.Admit(Id(2), 1));
  CHECK(order.Start() == Id(1));
  CHECK(order.Raise(kEpoch) == std::nullopt);
  CHECK(order.Raise(Epoch(8)) == Id(1));
  CHECK(order.Start() == std::nullopt);
  CHECK_THAT(order.Admit(Id(3), 2), StatusIs(absl::StatusCode::kAborted));
  CHECK_OK(order.Admit({Epoch(8), 1}, std::nullopt));
  CHECK(order.Start() == SegmentId{Epoch(8), 1});
}

// A coordinator that numbers segments over sets of agents, agents that carry
// them out; a segment ends when all its agents have started it, as a collective
// does.
class Cluster {
 public:
  struct Command {
    int agent = 0;
    uint64_t segment = 0;
    Predecessor predecessor;
  };

  explicit Cluster(int agents)
      : orders_(agents, SegmentOrder(kEpoch)), last_(agents) {}

  // Commands of a new segment, one for each of its agents.
  std::vector<Command> Number(const std::set<int>& agents) {
    const uint64_t number = ++count_;
    members_[number] = agents;
    std::vector<Command> commands;
    for (const int agent : agents) {
      commands.push_back({agent, number, last_[agent]});
      last_[agent] = number;
    }
    return commands;
  }

  void Deliver(const Command& command) {
    REQUIRE_OK(
        orders_[command.agent].Admit(Id(command.segment), command.predecessor));
    Run();
  }
  void DeclareVoid(const Command& command) {
    REQUIRE_OK(
        orders_[command.agent].Void(Id(command.segment), command.predecessor));
    Run();
  }

  std::vector<uint64_t> ended() const { return ended_; }
  const SegmentOrder& order(int agent) const { return orders_[agent]; }

  // Ends a segment on the agents that have started it.
  void AbortRun(uint64_t segment) {
    for (const int agent : started_[segment]) {
      REQUIRE_OK(orders_[agent].End(Id(segment)));
    }
    started_.erase(segment);
    Run();
  }

 private:
  void Run() {
    bool moved = true;
    while (moved) {
      moved = false;
      for (size_t agent = 0; agent < orders_.size(); ++agent) {
        while (const auto id = orders_[agent].Start()) {
          started_[id->number].insert(static_cast<int>(agent));
          moved = true;
        }
      }
      for (auto it = started_.begin(); it != started_.end();) {
        if (it->second != members_[it->first]) {
          ++it;
          continue;
        }
        for (const int agent : it->second) {
          REQUIRE_OK(orders_[agent].End(Id(it->first)));
        }
        ended_.push_back(it->first);
        it = started_.erase(it);
        moved = true;
      }
    }
  }

  std::vector<SegmentOrder> orders_;
  std::vector<Predecessor> last_;
  uint64_t count_ = 0;
  std::map<uint64_t, std::set<int>> members_;
  std::map<uint64_t, std::set<int>> started_;
  std::vector<uint64_t> ended_;
};

TEST_CASE("two syncs whose commands cross on the way both finish", "[nccl]") {
  Cluster cluster(2);
  const auto first = cluster.Number({0, 1});
  const auto second = cluster.Number({0, 1});
  // Agent 0 hears of the first one first, agent 1 of the second.
  cluster.Deliver(first[0]);
  cluster.Deliver(second[1]);
  CHECK(cluster.ended().empty());
  cluster.Deliver(second[0]);
  cluster.Deliver(first[1]);
  CHECK(cluster.ended() == std::vector<uint64_t>{1, 2});
}

TEST_CASE("any groups in any order of delivery finish", "[nccl]") {
  std::mt19937 random(GENERATE(1, 2, 3, 4, 5, 6, 7, 8));
  constexpr int kAgents = 6;
  constexpr int kSegments = 40;
  Cluster cluster(kAgents);
  std::vector<Cluster::Command> commands;
  for (int s = 0; s < kSegments; ++s) {
    std::set<int> agents;
    for (int a = 0; a < kAgents; ++a) {
      if (random() % 2 == 0) agents.insert(a);
    }
    agents.insert(static_cast<int>(random() % kAgents));
    for (const auto& command : cluster.Number(agents)) {
      commands.push_back(command);
      if (random() % 4 == 0) commands.push_back(command);  // sent again
    }
  }
  std::shuffle(commands.begin(), commands.end(), random);
  for (const auto& command : commands) cluster.Deliver(command);
  CHECK(cluster.ended().size() == kSegments);
}

TEST_CASE("a lost command stalls and is named; declared void, the rest goes on",
          "[nccl]") {
  std::mt19937 random(GENERATE(11, 12, 13, 14));
  constexpr int kAgents = 4;
  constexpr uint64_t kSegments = 20;
  Cluster cluster(kAgents);
  std::vector<Cluster::Command> commands;
  for (uint64_t s = 0; s < kSegments; ++s) {
    for (const auto& command : cluster.Number({0, 1, 2, 3})) {
      commands.push_back(command);
    }
  }
  const uint64_t lost = 2 + random() % (kSegments - 3);
  const int deaf = static_cast<int>(random() % kAgents);
  const auto is_lost = [&](const Cluster::Command& command) {
    return command.segment == lost && command.agent == deaf;
  };
  std::shuffle(commands.begin(), commands.end(), random);
  for (const auto& command : commands) {
    if (!is_lost(command)) cluster.Deliver(command);
  }
  CHECK(cluster.ended().size() == lost - 1);
  CHECK(cluster.order(deaf).Stalled() ==
        SegmentOrder::Stall{.missing = lost, .waiting = lost + 1});
  // Void for the one that never heard of it; the others abort what they began.
  for (const auto& command : commands) {
    if (is_lost(command)) cluster.DeclareVoid(command);
  }
  cluster.AbortRun(lost);
  CHECK(cluster.ended().size() == kSegments - 1);
}

}  // namespace
}  // namespace sluice::agent
