#include "coordinator/planner/simulation/evaluation.h"

#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"
#include "coordinator/planner/simulation/link_graph.h"
#include "coordinator/planner/simulation/movement.h"
#include "coordinator/planner/simulation/pattern_plans.h"
#include "coordinator/planner/simulation/time_bound.h"
#include "tests/coordinator/planner/planner_builders.h"
#include "tests/coordinator/planner/simulation/small_links.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator::simulation {
namespace {

using ::sluice::testing::ClusterOf;
using ::sluice::testing::Held;
using ::sluice::testing::MakeMesh;
using ::sluice::testing::MakeReshard;
using ::sluice::testing::OneTensor;
using ::sluice::testing::Ranks;
using ::sluice::testing::SmallLinks;
using ::sluice::testing::SplitOf;
using ::sluice::testing::StatusIs;

// Nodes of 2 ranks with a card each.
LinkTable SmallTable() { return SmallLinks(2, /*rank_rate=*/90); }

Topology Cluster(int32_t num_ranks) {
  return ClusterOf(SmallTable(), num_ranks);
}

// 8 x 4 elements of 4 bytes = 128 bytes, rows over ranks 0 and 1 (node 0), to
// be split along `dim` over `takers` ranks from rank 2 on.
ReshardInput Rows(int dim, int takers) {
  return MakeReshard(
      OneTensor({8, 4}), SplitOf(0), MakeMesh("tensor=2", 0), SplitOf(dim),
      MakeMesh(takers == 2 ? "tensor=2" : "tensor=4", 2), Cluster(2 + takers));
}

struct Leg {
  int32_t source, destination;
  int64_t bytes;
  friend bool operator==(const Leg&, const Leg&) = default;
};
std::ostream& operator<<(std::ostream& os, const Leg& leg) {
  return os << leg.source << "->" << leg.destination << ": " << leg.bytes;
}

std::vector<Leg> Legs(const absl::StatusOr<TransferPlan>& plan) {
  REQUIRE(plan.ok());
  std::vector<Leg> legs;
  for (const Transfer& transfer : plan->transfers) {
    legs.push_back({transfer.source.value(), transfer.destination.value(),
                    transfer.bytes});
  }
  return legs;
}

Movement Moves(const ReshardInput& input) {
  absl::StatusOr<Movement> movement = MovementOf(input);
  REQUIRE(movement.ok());
  return *std::move(movement);
}

TEST_CASE("what a node lacks bounds the time over its cards", "[planner]") {
  // Node 1 lacks all 128 bytes; it has two cards of 10.
  TimeBound bound = BoundSeconds(Moves(Rows(1, 2)), SmallTable());
  CHECK(bound.seconds == Approx(6.4));
  // Node 0 must send them over its two cards: the same.
  CHECK((bound.limit == "node 1 in" || bound.limit == "node 0 out"));
  LinkTable slow = SmallTable();
  slow.network_latency = 2;
  CHECK(BoundSeconds(Moves(Rows(1, 2)), slow).seconds == Approx(8.4));
  // The switch above node 1 carries a fourth of its cards.
  slow.network_latency = 0;
  slow.nodes_per_switch = 1;
  slow.oversubscription = 4;
  CHECK(BoundSeconds(Moves(Rows(1, 2)), slow).seconds == Approx(25.6));
}

TEST_CASE("in a node ranks' links bound the time, and copies their memory",
          "[planner]") {
  const auto inside = [](int dim) {
    return MakeReshard(OneTensor({8, 4}), SplitOf(0), MakeMesh("tensor=2", 0),
                       SplitOf(dim), MakeMesh("tensor=2", 0), Cluster(2));
  };
  // Each has 32 of its 64 bytes and lacks 32, over 90 + 10 bytes a second.
  CHECK(BoundSeconds(Moves(inside(1)), SmallTable()).seconds == Approx(0.32));
  // Each has all its 64 bytes: a copy at 1000.
  const TimeBound copies = BoundSeconds(Moves(inside(0)), SmallTable());
  CHECK(copies.seconds == Approx(0.064));
  CHECK(copies.limit == "rank 0 memory");
}

TEST_CASE("GATHER_SCATTER sends everything through one rank", "[planner]") {
  const ReshardInput input = Rows(1, 2);
  const absl::StatusOr<TransferPlan> plan = GatherScatterPlan(Moves(input));
  CHECK(Legs(plan) == std::vector<Leg>{{1, 0, 64}, {0, 2, 64}, {0, 3, 64}});
  CHECK(plan->transfers[1].reads_after == 0u);
  CHECK(plan->transfers[1].round == 1);
}

TEST_CASE("BROADCAST sends each piece from a holder to all who lack it",
          "[planner]") {
  CHECK(Legs(BroadcastPlan(Moves(Rows(1, 2)))) ==
        std::vector<Leg>{{0, 2, 32}, {0, 3, 32}, {1, 2, 32}, {1, 3, 32}});
}

TEST_CASE("TWO_STAGE sends whole shards to one rank, which passes them on",
          "[planner]") {
  const ReshardInput input = Rows(0, 4);
  const absl::StatusOr<TransferPlan> plan = TwoStagePlan(input, Moves(input));
  const std::vector<Leg> legs = Legs(plan);
  REQUIRE(legs.size() == 4);
  for (const Leg& leg : legs) CHECK(leg.bytes == 64);
  // Stage 2 waits for stage 1, inside the pairs (2, 3) and (4, 5).
  for (size_t i = 2; i < 4; ++i) {
    const Transfer& second = plan->transfers[i];
    REQUIRE(second.reads_after.has_value());
    CHECK(plan->transfers[*second.reads_after].destination == second.source);
    CHECK(second.source.value() / 2 == second.destination.value() / 2);
  }
}

TEST_CASE("TWO_STAGE says what it cannot do", "[planner]") {
  // Columns of rows: a rank needs something of both senders.
  const ReshardInput columns = Rows(1, 2);
  CHECK_THAT(TwoStagePlan(columns, Moves(columns)).status(),
             StatusIs(absl::StatusCode::kFailedPrecondition));
  // From more tensor ranks to fewer.
  const ReshardInput fewer =
      MakeReshard(OneTensor({8, 4}), SplitOf(0), MakeMesh("tensor=4", 0),
                  SplitOf(0), MakeMesh("tensor=2", 4), Cluster(6));
  CHECK_THAT(TwoStagePlan(fewer, Moves(fewer)).status(),
             StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_CASE("patterns stand side by side, and those that cannot say why",
          "[planner]") {
  const absl::StatusOr<Evaluation> evaluation =
      Evaluate(Rows(1, 2),
               {PlanPattern::kGatherScatter, PlanPattern::kBroadcast,
                PlanPattern::kTwoStage},
               SmallTable());
  REQUIRE(evaluation.ok());
  REQUIRE(evaluation->patterns.size() == 4);
  const PatternResult& direct = evaluation->patterns[0];
  CHECK(direct.pattern == PlanPattern::kDirect);
  CHECK(direct.simulated.seconds == Approx(6.4));
  CHECK(evaluation->TimeRatio(direct) == Approx(1));
  const PatternResult& gathered = evaluation->patterns[1];
  // 128 bytes out of rank 0's card, after 64 bytes from rank 1.
  CHECK(gathered.simulated.seconds == Approx(12.8 + 64.0 / 90));
  CHECK(gathered.plan.certificate.max_link_bytes == 128);
  CHECK(evaluation->patterns[2].status.ok());
  CHECK_FALSE(evaluation->patterns[3].status.ok());
}

TEST_CASE("redistributions are compared too", "[planner]") {
  RedistributionInput input;
  input.topology = Cluster(4);
  input.holdings = {Held("a", "x", 100, {0}), Held("b", "x", 100, {1})};
  input.wanted = {Ranks({2}), Ranks({3})};
  const absl::StatusOr<Evaluation> evaluation =
      Evaluate(input, {PlanPattern::kGatherScatter, PlanPattern::kTwoStage},
               SmallTable());
  REQUIRE(evaluation.ok());
  CHECK(evaluation->bound.seconds == Approx(10));
  CHECK(evaluation->patterns[0].simulated.seconds == Approx(10));
  // All through rank 0.
  CHECK(evaluation->patterns[1].simulated.seconds == Approx(20));
  CHECK_FALSE(evaluation->patterns[2].status.ok());
}

TEST_CASE("a bad input is refused as the planner refuses it", "[planner]") {
  ReshardInput input = Rows(1, 2);
  input.topology.node_of_rank.pop_back();
  input.topology.card_of_rank.pop_back();
  CHECK_FALSE(Evaluate(input, {}, SmallTable()).ok());
  CHECK_THAT(ParsePattern("TELEPORT").status(),
             StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace sluice::coordinator::simulation
