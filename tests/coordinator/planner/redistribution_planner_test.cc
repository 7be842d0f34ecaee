// PlanRedistribution and the reference steps, with plans derived by hand.

#include <catch2/catch.hpp>
#include <string>

#include "coordinator/planner/planners.h"
#include "coordinator/planner/reference_steps.h"
#include "tests/coordinator/planner/planner_builders.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::Held;
using ::sluice::testing::IsOk;
using ::sluice::testing::MakeTopology;
using ::sluice::testing::Ranks;
using ::sluice::testing::StatusIs;

using Lists = std::vector<std::vector<int32_t>>;

RedistributionInput Input(Pattern pattern, std::vector<int32_t> nodes) {
  RedistributionInput input;
  input.pattern = pattern;
  input.topology = MakeTopology(std::move(nodes));
  return input;
}

void Want(RedistributionInput& input, SampleHolding holding,
          std::initializer_list<int32_t> wanted) {
  input.holdings.push_back(std::move(holding));
  input.wanted.push_back(Ranks(wanted));
}

// Three samples: rank 0 owns "a", rank 1 "b" and "c"; ranks 0 and 2 want all.
RedistributionInput ThreeSamples(Pattern pattern) {
  RedistributionInput input = Input(pattern, {0, 0, 1});
  Want(input, Held("a", "x", 10, {0}), {0, 2});
  Want(input, Held("b", "x", 20, {1}), {0, 2});
  Want(input, Held("c", "x", 30, {1}), {0, 2});
  return input;
}

TEST_CASE("DIRECT moves what is missing, together where it travels alike",
          "[planner]") {
  const RedistributionInput input = ThreeSamples(Pattern::kDirect);
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanRedistribution(input));
  CHECK_THAT(ValidateRedistribution(input, plan), IsOk());
  // "a" to rank 2; "b" and "c" to ranks 0 and 2.
  REQUIRE(plan.transfers.size() == 3);
  CHECK(plan.certificate.bytes == LinkBytes{0, 50, 60});
  CHECK(plan.certificate.wasted_bytes == 0);
  CHECK(plan.certificate.rounds == 1);
  for (const Transfer& transfer : plan.transfers) {
    if (transfer.source == Rank(0)) {
      CHECK(transfer.kind == TransferKind::kSendRecv);
      CHECK(transfer.samples == std::vector<uint32_t>{0});
      CHECK(transfer.collective == 0);
    } else {
      CHECK(transfer.kind == TransferKind::kBroadcast);
      CHECK(transfer.samples == std::vector<uint32_t>{1, 2});
      CHECK(transfer.collective == 1);
    }
  }
  // Rank 2 must take 60 in.
  CHECK(plan.certificate.lower_bound_bytes == 60);
}

TEST_CASE("DIRECT crosses between nodes once and relays", "[planner]") {
  RedistributionInput input = Input(Pattern::kDirect, {0, 1, 1, 1});
  Want(input, Held("a", "x", 10, {0}), {1, 2, 3});
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanRedistribution(input));
  CHECK_THAT(ValidateRedistribution(input, plan), IsOk());
  REQUIRE(plan.transfers.size() == 3);
  CHECK(plan.certificate.bytes == LinkBytes{0, 20, 10});
  CHECK(plan.transfers[1].reads_after == 0u);
  CHECK(plan.transfers[2].reads_after == 0u);
  CHECK(plan.transfers[1].round == 1);
  // The relay's legs are one collective, the crossing another.
  CHECK(plan.transfers[1].collective == plan.transfers[2].collective);
  CHECK(plan.transfers[0].collective != plan.transfers[1].collective);
}

TEST_CASE("DIRECT lets several holders serve a big group", "[planner]") {
  RedistributionInput input = Input(Pattern::kDirect, {0, 0, 0, 0, 1});
  for (int i = 0; i < 40; ++i) {
    Want(input, Held("s" + std::to_string(100 + i), "x", 1 << 20, {0, 1, 2, 3}),
         {4});
  }
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanRedistribution(input));
  CHECK_THAT(ValidateRedistribution(input, plan), IsOk());
  REQUIRE(plan.transfers.size() == 4);
  for (const Transfer& transfer : plan.transfers) {
    CHECK(transfer.samples.size() == 10);
  }
}

TEST_CASE("GATHER_SCATTER passes everything through the lowest owner",
          "[planner]") {
  const RedistributionInput input = ThreeSamples(Pattern::kGatherScatter);
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanRedistribution(input));
  CHECK_THAT(ValidateRedistribution(input, plan), IsOk());
  // Gather b, c from 1 to 0; scatter to 2: a as it is, b and c as they come.
  REQUIRE(plan.transfers.size() == 3);
  CHECK(plan.transfers[0].kind == TransferKind::kGather);
  CHECK(plan.transfers[0].source == Rank(1));
  CHECK(plan.transfers[0].destination == Rank(0));
  CHECK(plan.transfers[0].samples == std::vector<uint32_t>{1, 2});
  CHECK(plan.transfers[1].kind == TransferKind::kScatter);
  CHECK(plan.transfers[1].samples == std::vector<uint32_t>{0});
  CHECK_FALSE(plan.transfers[1].reads_after.has_value());
  CHECK(plan.transfers[2].samples == std::vector<uint32_t>{1, 2});
  CHECK(plan.transfers[2].reads_after == 0u);
  CHECK(plan.transfers[1].collective == plan.transfers[2].collective);
  CHECK(plan.certificate.rounds == 2);
  CHECK(plan.certificate.wasted_bytes == 0);
}

TEST_CASE("GATHER_SCATTER counts what nobody needed as waste", "[planner]") {
  // Root 0 wants nothing; rank 1 gets its own "b" back with the rest.
  RedistributionInput input = Input(Pattern::kGatherScatter, {0, 0, 0});
  Want(input, Held("a", "x", 10, {0}), {1});
  Want(input, Held("b", "x", 20, {1}), {1, 2});
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanRedistribution(input));
  CHECK_THAT(ValidateRedistribution(input, plan), IsOk());
  // b to the root (20), b back to rank 1 (20).
  CHECK(plan.certificate.wasted_bytes == 40);
}

TEST_CASE("GATHER_SCATTER leaves out satisfied steps and joins equal ones",
          "[planner]") {
  // Key x is all on rank 1; keys y and z are spread alike.
  RedistributionInput input = Input(Pattern::kGatherScatter, {0, 0, 0, 0});
  Want(input, Held("a", "x", 1, {1}), {3});
  Want(input, Held("a", "y", 1, {0}), {3});
  Want(input, Held("a", "z", 1, {0}), {3});
  Want(input, Held("b", "x", 1, {1}), {3});
  Want(input, Held("b", "y", 1, {2}), {3});
  Want(input, Held("b", "z", 1, {2}), {3});
  const std::vector<ReferenceStep> steps = GatherScatterSteps(input);
  REQUIRE(steps.size() == 3);
  CHECK(steps[0].kind == TransferKind::kGather);
  CHECK(steps[0].root == Rank(0));
  CHECK(steps[0].peers == Ranks({0, 2}));
  CHECK(steps[0].holdings == Lists{{1, 2}, {4, 5}});
  CHECK(steps[1].kind == TransferKind::kScatter);
  CHECK(steps[1].root == Rank(1));
  CHECK(steps[1].holdings == Lists{{0, 3}});
  CHECK(steps[2].root == Rank(0));
  CHECK(steps[2].holdings == Lists{{1, 4, 2, 5}});
}

TEST_CASE("GATHER_SCATTER does nothing where nobody misses anything",
          "[planner]") {
  RedistributionInput input = Input(Pattern::kGatherScatter, {0, 0});
  Want(input, Held("a", "x", 1, {0}), {0});
  Want(input, Held("b", "x", 1, {1}), {1});
  CHECK(GatherScatterSteps(input).empty());
}

TEST_CASE("BROADCAST takes the nearest and least loaded holder", "[planner]") {
  RedistributionInput input = Input(Pattern::kBroadcast, {0, 0, 1, 1});
  Want(input, Held("a", "x", 1, {0, 1}), {2});     // equal: the lowest, 0
  Want(input, Held("b", "x", 1, {0, 1}), {2});     // 0 is loaded: 1
  Want(input, Held("c", "x", 1, {0, 2}), {1, 3});  // one each near: 2 is free
  Want(input, Held("d", "x", 1, {0, 2}), {1});     // 0 is near
  const std::vector<ReferenceStep> steps = BroadcastSteps(input);
  REQUIRE(steps.size() == 4);
  // First stage, by group: 0 sends a to 2; 1 cannot send to 2 as well; 2 sends
  // c to 1 and 3. Then 0 sends d to 1, 1 sends b to 2.
  CHECK(steps[0].root == Rank(0));
  CHECK(steps[0].holdings == Lists{{0}});
  CHECK(steps[1].root == Rank(2));
  CHECK(steps[1].peers == Ranks({1, 3}));
  CHECK(steps[1].stage == 0);
  CHECK(steps[2].root == Rank(0));
  CHECK(steps[2].holdings == Lists{{3}});
  CHECK(steps[2].stage == 1);
  CHECK(steps[3].root == Rank(1));
  CHECK(steps[3].stage == 1);
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanRedistribution(input));
  CHECK_THAT(ValidateRedistribution(input, plan), IsOk());
  CHECK(plan.transfers.size() == 5);
  CHECK(plan.certificate.rounds == 2);
}

TEST_CASE("a plan names only the entries it moves", "[planner]") {
  RedistributionInput input = Input(Pattern::kDirect, {0, 0});
  Want(input, Held("a", "x", 1, {0}), {0});
  Want(input, Held("b", "x", 1, {0}), {1});
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanRedistribution(input));
  REQUIRE(plan.entries.size() == 1);
  CHECK(plan.entries[0].sample_id == "b");
}

TEST_CASE("nothing wanted is an empty plan", "[planner]") {
  const Pattern pattern =
      GENERATE(Pattern::kDirect, Pattern::kGatherScatter, Pattern::kBroadcast);
  const RedistributionInput input = Input(pattern, {0});
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanRedistribution(input));
  CHECK(plan.transfers.empty());
  CHECK(plan.certificate.bound_ratio == 1.0);
  CHECK_THAT(ValidateRedistribution(input, plan), IsOk());
}

TEST_CASE("bad redistribution input is refused", "[planner]") {
  RedistributionInput input = ThreeSamples(Pattern::kDirect);
  const auto refused = [&](absl::string_view name) {
    CHECK_THAT(PlanRedistribution(input),
               StatusIs(absl::StatusCode::kInvalidArgument, name));
  };
  SECTION("no pattern") {
    input.pattern = Pattern::kUnspecified;
    refused("DIRECT");
  }
  SECTION("an unknown pattern") {
    input.pattern = static_cast<Pattern>(9);
    refused("9");
  }
  SECTION("a wanting rank out of range") {
    input.wanted[1] = Ranks({0, 5});
    refused("rank 5");
  }
  SECTION("a negative holder") {
    input.holdings[1].holders = Ranks({-1, 1});
    refused("rank -1");
  }
  SECTION("nobody holds it") {
    input.holdings[2].holders.clear();
    refused("\"c\"");
  }
  SECTION("an owner that is no holder") {
    input.holdings[2].owner = Rank(2);
    refused("\"c\"");
  }
  SECTION("the same tensor twice") {
    input.holdings[2].entry = input.holdings[1].entry;
    refused("\"b\"");
  }
  SECTION("a rank listed twice") {
    input.wanted[0] = Ranks({2, 2});
    refused("ascending");
  }
  SECTION("too many transfers") {
    PlanningLimits limits;
    limits.max_transfers = 2;
    CHECK_THAT(PlanRedistribution(input, limits),
               StatusIs(absl::StatusCode::kResourceExhausted, "2"));
  }
}

}  // namespace
}  // namespace sluice::coordinator
