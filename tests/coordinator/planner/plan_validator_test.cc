// Each kind of fault in a plan is named: transfer, tensor or sample, box, rank.

#include <catch2/catch.hpp>
#include <functional>

#include "coordinator/planner/planners.h"
#include "tests/coordinator/planner/planner_builders.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::Held;
using ::sluice::testing::IsOk;
using ::sluice::testing::MakeMesh;
using ::sluice::testing::MakeReshard;
using ::sluice::testing::MakeTopology;
using ::sluice::testing::OneTensor;
using ::sluice::testing::Ranks;
using ::sluice::testing::SplitOf;
using ::sluice::testing::StatusIs;

constexpr auto kInternal = absl::StatusCode::kInternal;

// 8 rows of "w": halves on ranks 0 and 1 (node 0), wanted whole by ranks 2 and
// 3 (node 1). Transfers 0 and 1 cross, 2 and 3 are relays.
struct Reshard {
  ReshardInput input = MakeReshard(
      OneTensor({8}), SplitOf(0), MakeMesh("tensor=2", 0), SplitOf(-1),
      MakeMesh("tensor=2", 2), MakeTopology({0, 0, 1, 1}));
  TransferPlan plan = *PlanReshard(input);

  Reshard() {
    REQUIRE(plan.transfers.size() == 4);
    REQUIRE(plan.transfers[2].round == 1);
    REQUIRE_THAT(ValidateReshard(input, plan), IsOk());
  }
};

TEST_CASE("a missing element is named with tensor, box and rank", "[planner]") {
  Reshard r;
  const Transfer last = r.plan.transfers.back();
  r.plan.transfers.pop_back();
  const absl::Status status = ValidateReshard(r.input, r.plan);
  CHECK_THAT(status, StatusIs(kInternal, "\"w\""));
  CHECK_THAT(status, StatusIs(kInternal, last.params.box.ToString()));
  CHECK_THAT(
      status,
      StatusIs(kInternal, "rank " + std::to_string(last.destination.value())));
}

TEST_CASE("an element written twice is named with both transfers",
          "[planner]") {
  Reshard r;
  Transfer copy = r.plan.transfers.back();
  copy.id = 4;
  r.plan.transfers.push_back(copy);
  const absl::Status status = ValidateReshard(r.input, r.plan);
  CHECK_THAT(status, StatusIs(kInternal, "transfer 3 "));
  CHECK_THAT(status, StatusIs(kInternal, "transfer 4 "));
}

TEST_CASE("a source that does not hold the box is named", "[planner]") {
  Reshard r;
  Transfer& first = r.plan.transfers[0];
  first.source = Rank(1 - first.source.value());
  const absl::Status status = ValidateReshard(r.input, r.plan);
  CHECK_THAT(status, StatusIs(kInternal, "transfer 0 "));
  CHECK_THAT(status, StatusIs(kInternal, "does not hold"));
}

TEST_CASE("faults of single fields are refused", "[planner]") {
  using Change = std::function<void(Reshard&)>;
  struct Fault {
    const char* what;
    Change change;
    const char* named;
  };
  const Fault fault = GENERATE(values<Fault>({
      {"bytes", [](Reshard& r) { r.plan.transfers[1].bytes = 15; }, "15"},
      {"wire type",
       [](Reshard& r) { r.plan.transfers[1].wire_dtype = DType::kUnspecified; },
       "\"w\" crosses as UNSPECIFIED"},
      {"link",
       [](Reshard& r) { r.plan.transfers[1].link = LinkClass::kSameNode; },
       "link"},
      {"kind",
       [](Reshard& r) { r.plan.transfers[1].kind = TransferKind::kLocalCopy; },
       "kind"},
      {"id", [](Reshard& r) { r.plan.transfers[1].id = 9; }, "position 1"},
      {"rank", [](Reshard& r) { r.plan.transfers[1].source = Rank(8); },
       "rank 8"},
      {"round order", [](Reshard& r) { r.plan.transfers[0].round = 3; },
       "round"},
      {"relay in the same round",
       [](Reshard& r) {
         r.plan.transfers[2].round = 0;
         r.plan.transfers[3].round = 0;
       },
       "earlier"},
      {"relay of nothing",
       [](Reshard& r) { r.plan.transfers[2].reads_after = 77; }, "77"},
      {"forgotten relay",
       [](Reshard& r) { r.plan.transfers[2].reads_after.reset(); },
       "not in placement"},
      {"placement",
       [](Reshard& r) { r.plan.transfers[2].destination_placement = 1; },
       "placement 1"},
      {"box outside",
       [](Reshard& r) {
         r.plan.transfers[0].params.box = Box({{4, 9}});
       },
       "[4,9)"},
      {"empty box",
       [](Reshard& r) {
         r.plan.transfers[0].params.box = Box({{4, 4}});
       },
       "[4,4)"},
      {"tensor",
       [](Reshard& r) {
         r.plan.transfers[0].params.tensors = {{0, 2, 1}};
       },
       "out of range"},
      {"no tensor",
       [](Reshard& r) { r.plan.transfers[0].params.tensors.clear(); },
       "no tensor"},
      {"samples", [](Reshard& r) { r.plan.transfers[0].samples = {0}; },
       "samples"},
      {"certificate bytes", [](Reshard& r) { ++r.plan.certificate.bytes[2]; },
       "certificate"},
      {"certificate by rank",
       [](Reshard& r) { ++r.plan.certificate.bytes_in[3][1]; }, "by rank"},
      {"certificate rounds", [](Reshard& r) { ++r.plan.certificate.rounds; },
       "rounds"},
      {"certificate bound",
       [](Reshard& r) { r.plan.certificate.lower_bound_bytes = 1000; },
       "bound"},
      {"same placement",
       [](Reshard& r) { r.input.destinations[0].name = "from"; }, "from"},
      {"replica", [](Reshard& r) { r.input.source_replicas = {1}; },
       "replica 0"},
  }));
  CAPTURE(fault.what);
  Reshard r;
  fault.change(r);
  CHECK_THAT(ValidateReshard(r.input, r.plan),
             StatusIs(kInternal, fault.named));
}

// "a" and "b" on rank 0 (node 0), wanted by ranks 1 and 2 (node 1): transfer 0
// crosses, 1 relays.
struct Redistribution {
  RedistributionInput input;
  TransferPlan plan;

  Redistribution() {
    input.pattern = Pattern::kDirect;
    input.topology = MakeTopology({0, 1, 1});
    for (const char* id : {"a", "b"}) {
      input.holdings.push_back(Held(id, "x", 8, {0}));
      input.wanted.push_back(Ranks({1, 2}));
    }
    plan = *PlanRedistribution(input);
    REQUIRE(plan.transfers.size() == 2);
    REQUIRE_THAT(ValidateRedistribution(input, plan), IsOk());
  }
};

TEST_CASE("faults of a redistribution are refused", "[planner]") {
  using Change = std::function<void(Redistribution&)>;
  struct Fault {
    const char* what;
    Change change;
    const char* named;
  };
  const Fault fault = GENERATE(values<Fault>({
      {"lost transfer", [](Redistribution& r) { r.plan.transfers.pop_back(); },
       "\"a\""},
      {"lost sample",
       [](Redistribution& r) {
         r.plan.transfers[1].samples = {0};
         r.plan.transfers[1].bytes = 8;
       },
       "\"b\""},
      {"delivered twice",
       [](Redistribution& r) {
         Transfer copy = r.plan.transfers[1];
         copy.id = 2;
         r.plan.transfers.push_back(copy);
       },
       "twice"},
      {"not held",
       [](Redistribution& r) {
         r.plan.transfers[0].source = Rank(2);
         r.plan.transfers[0].link = LinkClass::kSameNode;
       },
       "does not hold"},
      {"forgotten relay",
       [](Redistribution& r) { r.plan.transfers[1].reads_after.reset(); },
       "does not hold"},
      {"relay of what was not delivered",
       [](Redistribution& r) {
         r.plan.transfers[0].samples = {0};
         r.plan.transfers[0].bytes = 8;
       },
       "delivered"},
      {"to itself",
       [](Redistribution& r) {
         r.plan.transfers[0].destination = Rank(0);
         r.plan.transfers[0].link = LinkClass::kSameDevice;
         r.plan.transfers.pop_back();
       },
       "inside an agent"},
      {"entry out of range",
       [](Redistribution& r) {
         r.plan.transfers[0].samples = {0, 7};
       },
       "entry 7"},
      {"entry twice",
       [](Redistribution& r) {
         r.plan.transfers[0].samples = {0, 0};
       },
       "entry 0"},
      {"changed entry",
       [](Redistribution& r) {
         r.plan.entries[0].sequence_lengths = {4, 4};
       },
       "\"a\""},
      {"foreign entry",
       [](Redistribution& r) { r.plan.entries[0].sample_id = "z"; }, "\"z\""},
      {"bytes", [](Redistribution& r) { r.plan.transfers[0].bytes = 7; }, "7"},
      {"waste", [](Redistribution& r) { r.plan.certificate.wasted_bytes = 1; },
       "wasted"},
      {"parameters",
       [](Redistribution& r) {
         r.plan.transfers[0].params.tensors = {{0, 1, 1}};
       },
       "parameters"},
      {"wire type",
       [](Redistribution& r) { r.plan.transfers[0].wire_dtype = DType::kU8; },
       "parameters"},
  }));
  CAPTURE(fault.what);
  Redistribution r;
  fault.change(r);
  CHECK_THAT(ValidateRedistribution(r.input, r.plan),
             StatusIs(kInternal, fault.named));
}

}  // namespace
}  // namespace sluice::coordinator
