// Random reshards: the plan, carried out on real arrays, gives what brute force
// gives; the validator agrees; and a plan that was tampered with never passes
// it unless it still does the same work.

#include <algorithm>
#include <catch2/catch.hpp>
#include <optional>
#include <string>

#include "common/dtype.h"
#include "coordinator/planner/planners.h"
#include "tests/property/random_reshard.h"
#include "tests/property/reshard_oracle.h"
#include "tests/property/tampering.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::Draw;
using ::sluice::testing::Dress;
using ::sluice::testing::IsOk;
using ::sluice::testing::NumCases;
using ::sluice::testing::RandomReshard;
using ::sluice::testing::Rng;
using ::sluice::testing::RunPlan;

bool Same(const TransferPlan& a, const TransferPlan& b) {
  return a.transfers == b.transfers && a.entries == b.entries &&
         a.certificate == b.certificate;
}

Transfer& AnyOf(Rng& rng, TransferPlan& plan) {
  return plan.transfers[static_cast<size_t>(
      Draw(rng, 0, std::ssize(plan.transfers) - 1))];
}

Rank AnyRank(Rng& rng, const ReshardInput& input) {
  return Rank(
      static_cast<int32_t>(Draw(rng, 0, input.topology.num_ranks() - 1)));
}

// Returns another element type of as many bytes.
DType OtherOfSize(DType dtype) {
  for (const DType other :
       {DType::kI8, DType::kU8, DType::kF16, DType::kI16, DType::kF32,
        DType::kI32, DType::kF64, DType::kI64}) {
    if (other != dtype && ByteSize(other) == ByteSize(dtype)) return other;
  }
  return DType::kUnspecified;
}

// Leaves one transfer out; what read after it, or after later ones, follows.
void Drop(Rng& rng, TransferPlan& plan) {
  const auto gone =
      static_cast<uint32_t>(Draw(rng, 0, std::ssize(plan.transfers) - 1));
  plan.transfers.erase(plan.transfers.begin() + gone);
  for (Transfer& transfer : plan.transfers) {
    if (transfer.reads_after && *transfer.reads_after > gone) {
      --*transfer.reads_after;
    }
  }
}

void Duplicate(Rng& rng, TransferPlan& plan) {
  Transfer copy = AnyOf(rng, plan);
  copy.round = plan.transfers.back().round;
  plan.transfers.push_back(std::move(copy));
}

// Moves one face or the whole box along one dimension.
bool MoveBox(Rng& rng, TransferPlan& plan) {
  Box& box = AnyOf(rng, plan).params.box;
  if (box.rank() == 0) return false;
  Interval& dim = box.dim(static_cast<int>(Draw(rng, 0, box.rank() - 1)));
  const int64_t by = Draw(rng, 0, 1) == 1 ? 1 : -1;
  const int64_t faces = Draw(rng, 0, 2);
  if (faces != 0) dim.lo += by;
  if (faces != 1) dim.hi += by;
  return dim.lo >= 0 && !dim.empty();
}

// Returns false where no such tensors are there.
bool ShiftTensors(Rng& rng, const ReshardInput& input, TransferPlan& plan) {
  std::vector<TensorRun>& runs = AnyOf(rng, plan).params.tensors;
  if (Draw(rng, 0, 1) == 0) {
    runs[0].first += static_cast<int32_t>(Draw(rng, -1, 1));
    if (runs[0].first < 0) return false;
  } else {
    runs.back().count += static_cast<int32_t>(Draw(rng, -1, 1));
    if (runs.back().count < 1) return false;
  }
  const int64_t last =
      runs.back().first + int64_t{runs.back().step} * (runs.back().count - 1);
  return last < std::ssize(input.model->tensors);
}

// One random change of a plan's work; the name of what was done, nullopt if
// this plan has nothing to change that way.
std::optional<std::string> Tamper(Rng& rng, const ReshardInput& input,
                                  TransferPlan& plan) {
  switch (Draw(rng, 0, 8)) {
    case 0:
      Drop(rng, plan);
      return "drop";
    case 1:
      Duplicate(rng, plan);
      return "duplicate";
    case 2:
      if (!MoveBox(rng, plan)) return std::nullopt;
      return "move box";
    case 3:
      AnyOf(rng, plan).source = AnyRank(rng, input);
      return "source";
    case 4:
      AnyOf(rng, plan).destination = AnyRank(rng, input);
      return "destination";
    case 5: {
      Transfer& transfer = AnyOf(rng, plan);
      if (!transfer.reads_after) return std::nullopt;
      if (Draw(rng, 0, 1) == 0) {
        transfer.reads_after.reset();
        return "forget the relay";
      }
      transfer.reads_after = AnyOf(rng, plan).id;
      return "read after another";
    }
    case 6: {
      Transfer& transfer = AnyOf(rng, plan);
      transfer.reads_after = AnyOf(rng, plan).id;
      return "relay";
    }
    case 7: {
      const DType wires[] = {DType::kF32, DType::kBF16, DType::kF8E4M3};
      AnyOf(rng, plan).wire_dtype = wires[Draw(rng, 0, 2)];
      return "wire type";
    }
    default:
      if (!ShiftTensors(rng, input, plan)) return std::nullopt;
      return "tensors";
  }
}

TEST_CASE("plans of random reshards do what brute force does", "[planner]") {
  const int cases = NumCases(1500);
  Rng rng(Catch::rngSeed());
  int64_t relays = 0;
  int64_t crossings = 0;
  int64_t casts = 0;
  for (int i = 0; i < cases; ++i) {
    CAPTURE(Catch::rngSeed(), i);
    const ReshardInput input = RandomReshard(rng);
    REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
    CHECK_THAT(RunPlan(input, plan), Catch::Equals(""));
    REQUIRE_THAT(ValidateReshard(input, plan), IsOk());
    REQUIRE_OK_AND_ASSIGN(const TransferPlan again, PlanReshard(input));
    CHECK(Same(plan, again));
    for (const Transfer& transfer : plan.transfers) {
      relays += transfer.reads_after ? 1 : 0;
      crossings += transfer.link == LinkClass::kBetweenNodes ? 1 : 0;
      const TensorIndex first(transfer.params.tensors[0].first);
      casts += transfer.wire_dtype != input.model->tensor(first).dtype ? 1 : 0;
    }
  }
  // The cases are not trivial.
  CHECK(relays > cases / 4);
  CHECK(crossings > cases);
  CHECK(casts > cases);
}

TEST_CASE("the validator passes no plan that brute force refuses",
          "[planner]") {
  const int cases = NumCases(250);
  Rng rng(Catch::rngSeed() + 1);
  int refused = 0;
  int harmless = 0;
  for (int i = 0; i < cases; ++i) {
    const ReshardInput input = RandomReshard(rng);
    REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
    for (int k = 0; k < 12 && !plan.transfers.empty(); ++k) {
      TransferPlan changed = plan;
      const std::optional<std::string> change = Tamper(rng, input, changed);
      if (!change || changed.transfers == plan.transfers) continue;
      Dress(input, changed);
      CAPTURE(Catch::rngSeed(), i, k, *change);
      const std::string fault = RunPlan(input, changed);
      const absl::Status status = ValidateReshard(input, changed);
      if (fault.empty()) {
        ++harmless;
        continue;
      }
      CAPTURE(fault);
      REQUIRE(status.code() == absl::StatusCode::kInternal);
      ++refused;
    }
  }
  CHECK(refused > 4 * cases);
  CHECK(harmless < refused);
}

TEST_CASE("a plan that lies about itself is refused", "[planner]") {
  const int cases = NumCases(250);
  Rng rng(Catch::rngSeed() + 2);
  for (int i = 0; i < cases / 5; ++i) {
    const ReshardInput input = RandomReshard(rng);
    REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
    if (plan.transfers.empty()) continue;
    CAPTURE(Catch::rngSeed(), i);
    TransferPlan changed = plan;
    switch (Draw(rng, 0, 6)) {
      case 0:
        AnyOf(rng, changed).bytes += 1;
        break;
      case 1: {
        LinkClass& link = AnyOf(rng, changed).link;
        link = link == LinkClass::kSameNode ? LinkClass::kBetweenNodes
                                            : LinkClass::kSameNode;
        break;
      }
      case 2:
        AnyOf(rng, changed).id += 1;
        break;
      case 3:
        AnyOf(rng, changed).destination_placement = 7;
        break;
      case 4:
        AnyOf(rng, changed).source = Rank(99);
        break;
      case 5: {  // of the same size, so that the bytes are right
        DType& wire = AnyOf(rng, changed).wire_dtype;
        wire = OtherOfSize(wire);
        break;
      }
      default:
        changed.certificate.bytes[0] += 1;
        break;
    }
    CHECK_THAT(ValidateReshard(input, changed),
               ::sluice::testing::StatusIs(absl::StatusCode::kInternal));
  }
}

}  // namespace
}  // namespace sluice::coordinator
