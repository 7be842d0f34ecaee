// PlanReshard on small meshes, with numbers derived by hand.

#include <catch2/catch.hpp>
#include <set>

#include "coordinator/planner/planners.h"
#include "tests/coordinator/planner/planner_builders.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::EngineLayout;
using ::sluice::testing::IsOk;
using ::sluice::testing::MakeMesh;
using ::sluice::testing::MakeReshard;
using ::sluice::testing::MakeTopology;
using ::sluice::testing::OneTensor;
using ::sluice::testing::SplitOf;
using ::sluice::testing::StatusIs;
using ::sluice::testing::TinyDecoder;
using ::sluice::testing::TrainerLayout;

int64_t On(const Certificate& certificate, LinkClass link) {
  return certificate.bytes[static_cast<size_t>(link)];
}

int64_t In(const Certificate& certificate, int rank) {
  int64_t total = 0;
  for (const int64_t bytes : certificate.bytes_in[static_cast<size_t>(rank)]) {
    total += bytes;
  }
  return total;
}

// Two nodes of four; the trainer's stages are the nodes, each engine replica is
// a node.
ReshardInput TrainerToEngine() {
  return MakeReshard(TinyDecoder(4), TrainerLayout(),
                     MakeMesh("pipe=2,data=2,tensor=2", 0), EngineLayout(),
                     MakeMesh("data=2,tensor=4", 0),
                     MakeTopology({0, 0, 0, 0, 1, 1, 1, 1}));
}

TEST_CASE("a trainer's weights reach an engine with the fewest bytes",
          "[planner]") {
  const ReshardInput input = TrainerToEngine();
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
  CHECK_THAT(ValidateReshard(input, plan), IsOk());
  const Certificate& c = plan.certificate;
  // A rank of the engine holds, per layer, a quarter of q, o (64 each), gate,
  // up, down (128 each), one of two KV heads of k and v (32 each), both norms
  // (32): 608 elements; 4 layers, a quarter of the embedding (256) and the
  // final norm (16): 2704 elements of 2 bytes.
  for (int r = 0; r < 8; ++r) CHECK(In(c, r) == 5408);
  // Node 0 lacks layers 2, 3 and the final norm: 2 * 2208 + 16 elements; node 1
  // lacks layers 0 and 1: 2 * 2208. The embedding is on the first and the last
  // stage. Each crosses once.
  CHECK(On(c, LinkClass::kBetweenNodes) == (4432 + 4416) * 2);
  // Trainer half and engine quarter of ranks 0 and 3 (4 and 7) agree: layers of
  // their stage and the embedding are local, 2 * 608 + 256; ranks 1 and 2 (5
  // and 6) have the norms only, 2 * 32. On node 1 also the final norm.
  CHECK(On(c, LinkClass::kSameDevice) ==
        ((2 * 1472 + 2 * 64) + (2 * 1472 + 2 * 64 + 4 * 16)) * 2);
  CHECK(On(c, LinkClass::kSameNode) == 8 * 5408 - 17696 - 12416);
  CHECK(c.wasted_bytes == 0);
  // Node 0 must take 4432 elements in: no plan does with less.
  CHECK(c.lower_bound_bytes == 8864);
  CHECK(c.max_link_bytes == 8864);
  CHECK(c.bound_ratio == 1.0);
  CHECK(c.rounds == 2);
  CHECK(c.num_transfers == static_cast<int64_t>(plan.transfers.size()));
  // Bundles, not tensors: 37 tensors reach 8 agents in far fewer transfers than
  // 8 * 37 pieces.
  CHECK(c.num_transfers < 150);
}

// Trainer ranks 0 to 3 (two stages of two), engine ranks 4 to 7.
ReshardInput TwoStages() {
  ReshardInput input = MakeReshard(
      TinyDecoder(4), TrainerLayout(), MakeMesh("pipe=2,data=1,tensor=2", 0),
      EngineLayout(), MakeMesh("data=1,tensor=4", 4),
      MakeTopology({0, 0, 0, 0, 1, 1, 1, 1}));
  input.pattern = Pattern::kTwoStage;
  return input;
}

TEST_CASE("TWO_STAGE pairs ranks by position and relays what several need",
          "[planner]") {
  const ReshardInput input = TwoStages();
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
  CHECK_THAT(ValidateReshard(input, plan), IsOk());
  bool relayed = false;
  for (const Transfer& transfer : plan.transfers) {
    INFO("rank " << transfer.source.value() << " to "
                 << transfer.destination.value());
    // Two engine ranks to each tensor rank of the trainer, of either stage.
    const int32_t pair = (transfer.destination.value() - 4) / 2;
    if (transfer.reads_after) {
      CHECK(transfer.round == 1);
      CHECK((transfer.source.value() - 4) / 2 == pair);
      relayed = true;
    } else {
      CHECK(transfer.round == 0);
      CHECK(transfer.source.value() % 2 == pair);
    }
  }
  CHECK(relayed);  // norms: all ranks hold them whole
  CHECK(plan.certificate.rounds == 2);
}

TEST_CASE("TWO_STAGE says what its rank mapping cannot do", "[planner]") {
  SECTION("fewer tensor ranks than the trainer has") {
    ReshardInput input = TwoStages();
    input.destinations[0].mesh = MakeMesh("data=4,tensor=1", 4);
    CHECK_THAT(PlanReshard(input),
               StatusIs(absl::StatusCode::kInvalidArgument, "tensor"));
  }
  SECTION("a replica that the mapping counts on lacks the version") {
    ReshardInput input =
        MakeReshard(TinyDecoder(2), TrainerLayout(),
                    MakeMesh("pipe=1,data=2,tensor=1", 0), EngineLayout(),
                    MakeMesh("data=2,tensor=1", 2), MakeTopology({0, 0, 1, 1}));
    input.pattern = Pattern::kTwoStage;
    CHECK(PlanReshard(input).ok());
    input.source_replicas = {1};
    CHECK_THAT(PlanReshard(input),
               StatusIs(absl::StatusCode::kFailedPrecondition,
                        "with no rank that holds it"));
  }
  SECTION("a pattern of samples") {
    ReshardInput input = TwoStages();
    input.pattern = Pattern::kBroadcast;
    CHECK_THAT(PlanReshard(input),
               StatusIs(absl::StatusCode::kInvalidArgument, "TWO_STAGE"));
  }
}

TEST_CASE("tensors of several layers travel in one bundle", "[planner]") {
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan,
                        PlanReshard(TrainerToEngine()));
  // Rank 0's own gate and up rows of layers 0 and 1: tensors 5, 6, 14, 15.
  const Box quarter({{0, 8}, {0, 16}});
  int found = 0;
  for (const Transfer& transfer : plan.transfers) {
    if (transfer.source != Rank(0) || transfer.destination != Rank(0) ||
        transfer.params.box != quarter) {
      continue;
    }
    ++found;
    CHECK(ExpandTensors(transfer.params.tensors) ==
          std::vector<TensorIndex>{TensorIndex(5), TensorIndex(6),
                                   TensorIndex(14), TensorIndex(15)});
    CHECK(transfer.kind == TransferKind::kLocalCopy);
    CHECK(transfer.bytes == 4 * 8 * 16 * 2);
  }
  CHECK(found == 1);
}

TEST_CASE("what a whole node needs crosses once and fans out", "[planner]") {
  // One holder on node 0; three replicated takers on node 1.
  const ReshardInput input = MakeReshard(
      OneTensor({10}), SplitOf(-1), MakeMesh("tensor=1", 0), SplitOf(-1),
      MakeMesh("tensor=3", 1), MakeTopology({0, 1, 1, 1}));
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
  CHECK_THAT(ValidateReshard(input, plan), IsOk());
  REQUIRE(plan.transfers.size() == 3);
  CHECK(plan.transfers[0].link == LinkClass::kBetweenNodes);
  CHECK(plan.transfers[0].round == 0);
  for (size_t i = 1; i < 3; ++i) {
    CHECK(plan.transfers[i].link == LinkClass::kSameNode);
    CHECK(plan.transfers[i].round == 1);
    CHECK(plan.transfers[i].source == plan.transfers[0].destination);
    CHECK(plan.transfers[i].reads_after == 0u);
  }
  CHECK(plan.certificate.lower_bound_bytes == 40);
  // The relay sends two copies: 80 bytes leave it, and the plan says so.
  CHECK(plan.certificate.max_link_bytes == 80);
  CHECK(plan.certificate.bound_ratio == 2.0);
}

TEST_CASE("one large tensor is cut to level its holders", "[planner]") {
  // 64 MiB on both ranks of node 0, wanted by a rank of node 1.
  const ReshardInput input = MakeReshard(
      OneTensor({4096, 4096}), SplitOf(-1), MakeMesh("tensor=2", 0),
      SplitOf(-1), MakeMesh("tensor=1", 2), MakeTopology({0, 0, 1}));
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
  CHECK_THAT(ValidateReshard(input, plan), IsOk());
  // Slices that go the same way are one box again.
  REQUIRE(plan.transfers.size() == 2);
  CHECK(plan.transfers[0].source != plan.transfers[1].source);
  CHECK(plan.transfers[0].bytes == 32 << 20);
  CHECK(plan.transfers[1].bytes == 32 << 20);
}

TEST_CASE("only replicas that hold the version are read", "[planner]") {
  ReshardInput input = TrainerToEngine();
  input.source_replicas = {1};  // trainer ranks 2, 3, 6, 7
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
  CHECK_THAT(ValidateReshard(input, plan), IsOk());
  std::set<Rank> sources;
  for (const Transfer& transfer : plan.transfers) {
    if (!transfer.reads_after) sources.insert(transfer.source);
  }
  CHECK(sources == std::set<Rank>{Rank(2), Rank(3), Rank(6), Rank(7)});
}

TEST_CASE("several destination placements are planned together", "[planner]") {
  ReshardInput input = TrainerToEngine();
  input.destinations.push_back(
      {"other", EngineLayout(), MakeMesh("data=1,tensor=3", 2)});
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
  CHECK_THAT(ValidateReshard(input, plan), IsOk());
  int64_t second = 0;
  for (const Transfer& transfer : plan.transfers) {
    if (transfer.destination_placement == 1) second += transfer.bytes;
  }
  CHECK(second > 0);
}

TEST_CASE("a placement that is already the same moves nothing away",
          "[planner]") {
  const ReshardInput input =
      MakeReshard(OneTensor({7, 3}), SplitOf(0), MakeMesh("tensor=3", 0),
                  SplitOf(0), MakeMesh("tensor=3", 0), MakeTopology({0, 0, 1}));
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
  CHECK_THAT(ValidateReshard(input, plan), IsOk());
  CHECK(On(plan.certificate, LinkClass::kSameDevice) == 7 * 3 * 4);
  CHECK(plan.certificate.max_link_bytes == 0);
  CHECK(plan.certificate.bound_ratio == 1.0);
}

TEST_CASE("an element that nobody holds is named", "[planner]") {
  // The source holds rows 0 to 5 of 8; rank 3 of the destination wants 6, 7.
  auto partial = std::make_shared<Layout>();
  partial->name = "partial";
  RankLayout rank;
  rank.params.push_back({"w", DType::kF32, {6, 2}, 0});
  rank.views.push_back({TensorIndex(0), Box({{0, 6}, {0, 2}}), 0, 0, {2, 1}});
  partial->explicit_ranks = {rank};
  const ReshardInput input = MakeReshard(
      OneTensor({8, 2}), partial, MakeMesh("tensor=1", 0), SplitOf(0),
      MakeMesh("tensor=4", 0), MakeTopology({0, 0, 0, 0}));
  const auto plan = PlanReshard(input);
  CHECK_THAT(plan, StatusIs(absl::StatusCode::kInvalidArgument, "\"w\""));
  CHECK_THAT(plan, StatusIs(absl::StatusCode::kInvalidArgument, "[6,8)x[0,2)"));
  CHECK_THAT(plan, StatusIs(absl::StatusCode::kInvalidArgument, "rank 3"));
}

TEST_CASE("bad reshard input is refused", "[planner]") {
  ReshardInput input = TrainerToEngine();
  SECTION("one placement as source and destination") {
    input.destinations[0].name = input.source.name;
    CHECK_THAT(PlanReshard(input),
               StatusIs(absl::StatusCode::kInvalidArgument, "from"));
  }
  SECTION("a rank that does not exist") {
    input.topology.node_of_rank.pop_back();
    CHECK_THAT(PlanReshard(input),
               StatusIs(absl::StatusCode::kInvalidArgument, "rank 7"));
  }
  SECTION("a rank without an agent") {
    input.topology.node_of_rank[3] = -1;
    CHECK_THAT(PlanReshard(input),
               StatusIs(absl::StatusCode::kInvalidArgument, "rank 3"));
  }
  SECTION("a replica that does not exist") {
    input.source_replicas = {2};
    CHECK_THAT(PlanReshard(input),
               StatusIs(absl::StatusCode::kInvalidArgument, "2"));
  }
  SECTION("no replica") {
    input.source_replicas.clear();
    CHECK_THAT(PlanReshard(input),
               StatusIs(absl::StatusCode::kInvalidArgument, "from"));
  }
  SECTION("too many transfers") {
    PlanningLimits limits;
    limits.max_transfers = 10;
    CHECK_THAT(PlanReshard(input, limits),
               StatusIs(absl::StatusCode::kResourceExhausted, "10"));
  }
  SECTION("too many ranks") {
    PlanningLimits limits;
    limits.max_ranks = 7;
    CHECK_THAT(PlanReshard(input, limits),
               StatusIs(absl::StatusCode::kResourceExhausted, "7"));
  }
}

}  // namespace
}  // namespace sluice::coordinator
