#include "agent/nccl/segment_order.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "common/ids.h"

namespace sluice::agent {
namespace {

constexpr OperationId kA{1};
constexpr OperationId kB{2};

TEST_CASE("segments run one at a time, as they are numbered", "[nccl]") {
  SegmentOrder order;
  order.Enter(kA);
  CHECK_FALSE(order.Shared());
  order.Enter(kB);
  CHECK(order.Shared());
  CHECK(order.Propose(kA, true) == 0);
  CHECK(order.Propose(kB, true) == 0);
  order.Agree(kA, 7, true);
  // B may yet be numbered 1.
  CHECK_FALSE(order.Start(kA));
  order.Agree(kB, 3, true);
  CHECK_FALSE(order.Start(kA));
  CHECK(order.Start(kB));
  CHECK(order.Start(kB));
  CHECK_FALSE(order.Start(kA));
  order.End(kB);
  CHECK_FALSE(order.Start(kB));
  // What is told from now on comes after A's.
  CHECK(order.Propose(kB, true) == 7);
  CHECK(order.Start(kA));
}

TEST_CASE(
    "of two with one number the operation that is numbered lower is first",
    "[nccl]") {
  SegmentOrder order;
  for (const OperationId id : {kA, kB}) {
    order.Enter(id);
    order.Propose(id, true);
  }
  order.Agree(kB, 1, true);
  CHECK_FALSE(order.Start(kB));
  order.Agree(kA, 1, true);
  CHECK_FALSE(order.Start(kB));
  CHECK(order.Start(kA));
}

TEST_CASE("nobody waits for what has nothing to move here, or has left",
          "[nccl]") {
  SegmentOrder order;
  for (const OperationId id : {kA, kB}) {
    order.Enter(id);
    order.Propose(id, id == kA);
  }
  order.Agree(kA, 5, true);
  SECTION("it said so") {}
  SECTION("it was found so") {
    order.Propose(kB, true);
    order.Agree(kB, 2, false);
  }
  SECTION("it has left") {
    order.Leave(kB);
    CHECK_FALSE(order.Shared());
  }
  CHECK(order.Start(kA));
}

// Agents that carry out segments of operations, each among some of them. Who
// starts a segment stands still until all whom it moves have, as NCCL does.
// What agents tell each other arrives at any time.
class Cluster {
 public:
  Cluster(int agents, int operations, int segments, std::mt19937_64& random)
      : random_(random), orders_(static_cast<size_t>(agents)) {
    for (int o = 0; o < operations; ++o) {
      Operation& op = operations_.emplace_back();
      op.id = OperationId(static_cast<uint64_t>(o + 1));
      op.segments.resize(static_cast<size_t>(segments));
      std::vector<int> all;
      for (int a = 0; a < agents; ++a) all.push_back(a);
      std::shuffle(all.begin(), all.end(), random_);
      all.resize(2 + random_() % static_cast<uint64_t>(agents - 1));
      for (const int a : all) {
        op.members.push_back({.agent = a});
        orders_[static_cast<size_t>(a)].Enter(op.id);
      }
    }
  }

  // Does something that can be done; false: nothing can.
  bool Step() {
    std::vector<std::function<void()>> can;
    for (Operation& op : operations_) {
      for (Member& member : op.members) Collect(op, member, can);
    }
    if (can.empty()) return false;
    can[random_() % can.size()]();
    return true;
  }

  bool AllDone() const {
    for (const Operation& op : operations_) {
      for (const Member& member : op.members) {
        if (!Done(op, member)) return false;
      }
    }
    return true;
  }

 private:
  enum class State { kReady, kTold, kWaits, kRuns };
  struct Member {
    int agent = 0;
    State state = State::kReady;
    int segment = 0;
    bool may_move = false;
  };
  // What the members have told of a segment.
  struct Told {
    size_t members = 0;
    uint64_t most = 0;
  };
  struct Operation {
    OperationId id;
    std::vector<Member> members;
    std::vector<Told> segments;
  };

  void Collect(Operation& op, Member& member,
               std::vector<std::function<void()>>& can) {
    if (Done(op, member)) return;
    SegmentOrder& order = orders_[static_cast<size_t>(member.agent)];
    Told& told = op.segments[static_cast<size_t>(member.segment)];
    switch (member.state) {
      case State::kReady:
        can.push_back([&] {
          member.may_move = random_() % 4 != 0;
          const uint64_t count = order.Propose(op.id, member.may_move);
          told = {told.members + 1, std::max(told.most, count)};
          member.state = State::kTold;
        });
        return;
      case State::kTold:
        if (told.members < op.members.size()) return;
        can.push_back([&] {
          order.Agree(op.id, told.most + 1, member.may_move);
          member.state = State::kWaits;
        });
        return;
      case State::kWaits:
        if (!member.may_move || order.Start(op.id)) {
          can.push_back([&] { member.state = State::kRuns; });
        }
        return;
      case State::kRuns:
        for (const Member& other : op.members) {
          if (!HasBegun(other, member.segment)) return;
        }
        can.push_back([&] {
          order.End(op.id);
          member.state = State::kReady;
          ++member.segment;
        });
        return;
    }
  }

  static bool HasBegun(const Member& member, int segment) {
    return member.segment > segment ||
           (member.segment == segment && member.state == State::kRuns);
  }
  static bool Done(const Operation& op, const Member& member) {
    return static_cast<size_t>(member.segment) == op.segments.size();
  }

  std::mt19937_64& random_;
  std::vector<SegmentOrder> orders_;
  std::vector<Operation> operations_;
};

TEST_CASE("any operations among any agents go on until all have ended",
          "[nccl]") {
  std::mt19937_64 random(Catch::rngSeed());
  for (int round = 0; round < 100; ++round) {
    Cluster cluster(2 + static_cast<int>(random() % 5),
                    2 + static_cast<int>(random() % 4), 6, random);
    while (cluster.Step()) {
    }
    REQUIRE(cluster.AllDone());
  }
}

}  // namespace
}  // namespace sluice::agent
