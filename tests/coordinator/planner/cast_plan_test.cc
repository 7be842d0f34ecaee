// Placements that hold a tensor in different element types: what crosses, how
// many bytes that is, and what the validator says of a plan that gets it wrong.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/dtype.h"
#include "common/layout.h"
#include "common/model.h"
#include "coordinator/planner/planners.h"
#include "tests/coordinator/planner/planner_builders.h"
#include "tests/property/tampering.h"
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

constexpr auto kInternal = absl::StatusCode::kInternal;

std::shared_ptr<const Layout> As(DType dtype,
                                 std::shared_ptr<const Layout> layout) {
  auto out = std::make_shared<Layout>(*layout);
  for (LayoutRule& rule : out->rules) rule.dtype = dtype;
  return out;
}

// "w", 8x4 of f32: rows over ranks 0 and 1 (node 0) as `from`, whole on ranks 2
// and 3 (node 1) as `to`: two transfers cross, two relay.
ReshardInput Rows(DType from, DType to) {
  return MakeReshard(OneTensor({8, 4}), As(from, SplitOf(0)),
                     MakeMesh("tensor=2", 0), As(to, SplitOf(-1)),
                     MakeMesh("tensor=2", 2), MakeTopology({0, 0, 1, 1}));
}

int64_t BetweenNodes(const TransferPlan& plan) {
  return plan.certificate.bytes[static_cast<size_t>(LinkClass::kBetweenNodes)];
}

TEST_CASE("parameters cross in the smaller of two types", "[planner]") {
  struct Row {
    DType from, to, wire;
    int64_t element_bytes;
  };
  const Row row = GENERATE(values<Row>({
      {DType::kF32, DType::kBF16, DType::kBF16, 2},
      {DType::kBF16, DType::kF32, DType::kBF16, 2},
      {DType::kF16, DType::kBF16, DType::kBF16, 2},
      {DType::kF64, DType::kF32, DType::kF32, 4},
      {DType::kBF16, DType::kF8E4M3, DType::kF8E4M3, 1},
      {DType::kF8E4M3, DType::kF32, DType::kF8E4M3, 1},
      {DType::kUnspecified, DType::kUnspecified, DType::kF32, 4},
  }));
  CAPTURE(row.from, row.to);
  const ReshardInput input = Rows(row.from, row.to);
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
  REQUIRE(plan.transfers.size() == 4);
  for (const Transfer& transfer : plan.transfers) {
    CHECK(transfer.wire_dtype == row.wire);
    CHECK(transfer.bytes == 4 * 4 * row.element_bytes);
  }
  CHECK(BetweenNodes(plan) == 8 * 4 * row.element_bytes);
  // All of it enters node 1 once: no plan does with less.
  CHECK(plan.certificate.lower_bound_bytes == 8 * 4 * row.element_bytes);
  CHECK(plan.certificate.bound_ratio == 1.0);
  CHECK_THAT(ValidateReshard(input, plan), IsOk());
}

TEST_CASE("an agent that has what it wants in another type converts it alone",
          "[planner]") {
  const ReshardInput input =
      MakeReshard(OneTensor({8, 4}), SplitOf(0), MakeMesh("tensor=2", 0),
                  As(DType::kBF16, SplitOf(0)), MakeMesh("tensor=2", 0),
                  MakeTopology({0, 1}));
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
  REQUIRE(plan.transfers.size() == 2);
  for (const Transfer& transfer : plan.transfers) {
    CHECK(transfer.kind == TransferKind::kLocalCopy);
    CHECK(transfer.wire_dtype == DType::kBF16);
    CHECK(transfer.bytes == 4 * 4 * 2);
  }
  CHECK_THAT(ValidateReshard(input, plan), IsOk());
}

TEST_CASE("placements of one sync take a tensor in types of their own",
          "[planner]") {
  ReshardInput input = Rows(DType::kF32, DType::kBF16);
  PlacementGeometry second = input.destinations[0];
  second.name = "second";
  second.layout = SplitOf(-1);
  input.destinations.push_back(second);
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
  CHECK_THAT(ValidateReshard(input, plan), IsOk());
  const DType wires[] = {DType::kBF16, DType::kF32};
  for (const Transfer& transfer : plan.transfers) {
    CAPTURE(transfer.id);
    CHECK(transfer.wire_dtype == wires[transfer.destination_placement]);
    if (!transfer.reads_after) continue;
    const Transfer& before = plan.transfers[*transfer.reads_after];
    CHECK(before.wire_dtype == transfer.wire_dtype);
    CHECK(before.destination_placement == transfer.destination_placement);
  }
  // Into node 1: once for each placement.
  CHECK(BetweenNodes(plan) == 8 * 4 * 2 + 8 * 4 * 4);
}

TEST_CASE("the validator refuses a bundle of tensors held in two types",
          "[planner]") {
  auto model = std::make_shared<ModelSpec>(*OneTensor({8, 4}));
  model->tensors.push_back(model->tensors[0]);
  model->tensors.back().name = "x";
  auto trainer = std::make_shared<Layout>(*SplitOf(-1));
  trainer->rules.push_back(trainer->rules[0]);
  trainer->rules[0].pattern = "w";
  trainer->rules[0].dtype = DType::kBF16;
  trainer->rules[1].pattern = "x";
  const ReshardInput input =
      MakeReshard(model, trainer, MakeMesh("tensor=1", 0), SplitOf(-1),
                  MakeMesh("tensor=1", 1), MakeTopology({0, 1}));
  REQUIRE_OK_AND_ASSIGN(TransferPlan plan, PlanReshard(input));
  CHECK_THAT(ValidateReshard(input, plan), IsOk());
  REQUIRE(plan.transfers.size() == 2);
  plan.transfers.resize(1);
  plan.transfers[0].params.tensors = {{0, 2, 1}};
  plan.transfers[0].wire_dtype = DType::kF32;
  ::sluice::testing::Dress(input, plan);
  CHECK_THAT(ValidateReshard(input, plan),
             StatusIs(kInternal, "expected UNSPECIFIED"));
}

TEST_CASE("a bundle has tensors of one type on either side", "[planner]") {
  // As the engine's embedding stays bf16: o_proj, gate and the others do not.
  auto engine = std::make_shared<Layout>(*EngineLayout());
  for (LayoutRule& rule : engine->rules) {
    if (rule.pattern == "layers.{layer}.down") rule.dtype = DType::kF8E4M3;
    if (rule.pattern == "layers.{layer}.norm1") rule.dtype = DType::kF32;
  }
  const ReshardInput input = MakeReshard(
      TinyDecoder(4), TrainerLayout(), MakeMesh("pipe=2,data=1,tensor=2", 0),
      engine, MakeMesh("data=1,tensor=2", 4), MakeTopology({0, 0, 0, 0, 1, 1}));
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
  CHECK_THAT(ValidateReshard(input, plan), IsOk());
  int casts = 0;
  for (const Transfer& transfer : plan.transfers) {
    for (const TensorIndex index : ExpandTensors(transfer.params.tensors)) {
      const std::string& name = input.model->tensor(index).name;
      CAPTURE(name);
      const bool down = name.find(".down") != std::string::npos;
      CHECK(transfer.wire_dtype == (down ? DType::kF8E4M3 : DType::kBF16));
      casts += down ? 1 : 0;
    }
  }
  CHECK(casts >= 4);
}

TEST_CASE("a cast costs an uncast plan nothing", "[planner]") {
  // The same type said twice: the plan is the same to the last byte.
  const ReshardInput plain = MakeReshard(
      TinyDecoder(2), TrainerLayout(), MakeMesh("pipe=2,data=1,tensor=2", 0),
      EngineLayout(), MakeMesh("data=1,tensor=2", 4),
      MakeTopology({0, 0, 0, 0, 1, 1}));
  ReshardInput said = plain;
  said.source.layout = As(DType::kBF16, plain.source.layout);
  said.destinations[0].layout = As(DType::kBF16, plain.destinations[0].layout);
  REQUIRE_OK_AND_ASSIGN(const TransferPlan one, PlanReshard(plain));
  REQUIRE_OK_AND_ASSIGN(const TransferPlan other, PlanReshard(said));
  CHECK(one.transfers == other.transfers);
  CHECK(one.certificate == other.certificate);
}

TEST_CASE("a transfer of another type than the sides call for is refused",
          "[planner]") {
  const ReshardInput input = Rows(DType::kF32, DType::kBF16);
  REQUIRE_OK_AND_ASSIGN(const TransferPlan good, PlanReshard(input));
  for (const DType wrong :
       {DType::kUnspecified, DType::kF32, DType::kF16, DType::kF8E4M3}) {
    CAPTURE(wrong);
    TransferPlan plan = good;
    plan.transfers[1].wire_dtype = wrong;
    const absl::Status status = ValidateReshard(input, plan);
    CHECK_THAT(status, StatusIs(kInternal, "transfer 1 "));
    CHECK_THAT(status, StatusIs(kInternal, "expected BF16"));
  }
}

TEST_CASE("a relay from a placement of another type is refused", "[planner]") {
  ReshardInput input = Rows(DType::kF32, DType::kBF16);
  PlacementGeometry second = input.destinations[0];
  second.name = "second";
  second.layout = SplitOf(-1);
  input.destinations.push_back(second);
  REQUIRE_OK_AND_ASSIGN(TransferPlan plan, PlanReshard(input));
  const auto relay = std::find_if(
      plan.transfers.begin(), plan.transfers.end(), [](const Transfer& t) {
        return t.reads_after && t.destination_placement == 0;
      });
  REQUIRE(relay != plan.transfers.end());
  // The same box came to the same rank for the other placement, in f32.
  const auto other = std::find_if(
      plan.transfers.begin(), plan.transfers.end(), [&](const Transfer& t) {
        return t.round < relay->round && t.destination_placement == 1 &&
               t.destination == relay->source &&
               t.params.box == relay->params.box;
      });
  REQUIRE(other != plan.transfers.end());
  relay->reads_after = other->id;
  CHECK_THAT(ValidateReshard(input, plan),
             StatusIs(kInternal, "not part of what"));
}

}  // namespace
}  // namespace sluice::coordinator
