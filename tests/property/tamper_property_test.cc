// Four ways to spoil a plan, each of which takes something from somebody who
// needs it: the validator refuses every one, without exception. Everything else
// about the spoiled plan is made consistent first.

#include <algorithm>
#include <catch2/catch.hpp>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/planner/planners.h"
#include "tests/property/random_redistribution.h"
#include "tests/property/random_reshard.h"
#include "tests/property/tampering.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::Draw;
using ::sluice::testing::Dress;
using ::sluice::testing::IsOk;
using ::sluice::testing::NumCases;
using ::sluice::testing::RandomRedistribution;
using ::sluice::testing::RandomReshard;
using ::sluice::testing::Rng;
using ::sluice::testing::StatusIs;

enum class Kind { kDrop, kDuplicate, kShift, kSwapRank };
constexpr Kind kKinds[] = {Kind::kDrop, Kind::kDuplicate, Kind::kShift,
                           Kind::kSwapRank};

const char* NameOf(Kind kind) {
  switch (kind) {
    case Kind::kDrop:
      return "drop";
    case Kind::kDuplicate:
      return "duplicate";
    case Kind::kShift:
      return "shift";
    case Kind::kSwapRank:
      return "swap rank";
  }
  return "";
}

// Leaves a transfer out; what read after it reads what was there at the start.
void Drop(size_t index, TransferPlan& plan) {
  plan.transfers.erase(plan.transfers.begin() +
                       static_cast<std::ptrdiff_t>(index));
  for (Transfer& transfer : plan.transfers) {
    if (!transfer.reads_after || *transfer.reads_after < index) continue;
    if (*transfer.reads_after == index) {
      transfer.reads_after.reset();
    } else {
      --*transfer.reads_after;
    }
  }
}

// A second delivery, as late as can be: after what it may depend on.
void Duplicate(size_t index, TransferPlan& plan) {
  Transfer copy = plan.transfers[index];
  copy.round = plan.transfers.back().round;
  plan.transfers.push_back(std::move(copy));
}

// Another rank takes what this one needs.
bool SwapDestination(Rng& rng, const Topology& topology, Transfer& transfer) {
  if (topology.num_ranks() < 2) return false;
  const auto other =
      static_cast<int32_t>(Draw(rng, 0, topology.num_ranks() - 2));
  transfer.destination =
      Rank(other + (other >= transfer.destination.value() ? 1 : 0));
  return true;
}

// --- Parameters -------------------------------------------------------------
// Each delivery is needed: every destination element arrives exactly once.

// Moves the box by one where it stays inside the tensor.
bool ShiftBox(Rng& rng, const ModelSpec& model, ParamBundle& bundle) {
  const Shape& shape =
      model.tensors[static_cast<size_t>(bundle.tensors[0].first)].shape;
  const auto dims = static_cast<int>(shape.size());
  const int first = dims == 0 ? 0 : static_cast<int>(Draw(rng, 0, dims - 1));
  for (int i = 0; i < dims; ++i) {
    const int d = (first + i) % dims;
    Interval& dim = bundle.box.dim(d);
    const int64_t by = dim.lo > 0 ? -1 : 1;
    if (dim.hi + by > shape[static_cast<size_t>(d)]) continue;
    dim.lo += by;
    dim.hi += by;
    return true;
  }
  return false;
}

bool Tamper(Rng& rng, Kind kind, const ReshardInput& input,
            TransferPlan& plan) {
  const auto index =
      static_cast<size_t>(Draw(rng, 0, std::ssize(plan.transfers) - 1));
  switch (kind) {
    case Kind::kDrop:
      Drop(index, plan);
      return true;
    case Kind::kDuplicate:
      Duplicate(index, plan);
      return true;
    case Kind::kShift:
      return ShiftBox(rng, *input.model, plan.transfers[index].params);
    case Kind::kSwapRank:
      return SwapDestination(rng, input.topology, plan.transfers[index]);
  }
  return false;
}

// --- Samples ----------------------------------------------------------------

// The deliveries of a transfer that its destination wants and has not, as
// positions in its samples. Reference patterns make others too.
std::vector<size_t> Needed(const RedistributionInput& input,
                           const TransferPlan& plan, const Transfer& transfer) {
  std::vector<size_t> out;
  for (size_t s = 0; s < transfer.samples.size(); ++s) {
    for (size_t h = 0; h < input.holdings.size(); ++h) {
      if (!(input.holdings[h].entry == plan.entries[transfer.samples[s]])) {
        continue;
      }
      const std::vector<Rank>& holders = input.holdings[h].holders;
      const std::vector<Rank>& wanted = input.wanted[h];
      if (std::count(wanted.begin(), wanted.end(), transfer.destination) &&
          !std::count(holders.begin(), holders.end(), transfer.destination)) {
        out.push_back(s);
      }
    }
  }
  return out;
}

// Puts another entry, or none, in a needed one's place.
void ShiftSample(Rng& rng, size_t position, const TransferPlan& plan,
                 Transfer& transfer) {
  const auto other =
      static_cast<uint32_t>(Draw(rng, 0, std::ssize(plan.entries) - 1));
  std::vector<uint32_t>& samples = transfer.samples;
  samples.erase(samples.begin() + static_cast<std::ptrdiff_t>(position));
  const auto at = std::lower_bound(samples.begin(), samples.end(), other);
  if (at == samples.end() || *at != other) samples.insert(at, other);
}

bool Tamper(Rng& rng, Kind kind, const RedistributionInput& input,
            TransferPlan& plan) {
  const auto index =
      static_cast<size_t>(Draw(rng, 0, std::ssize(plan.transfers) - 1));
  Transfer& transfer = plan.transfers[index];
  const std::vector<size_t> needed = Needed(input, plan, transfer);
  if (needed.empty()) return false;
  switch (kind) {
    case Kind::kDrop:
      Drop(index, plan);
      return true;
    case Kind::kDuplicate:
      Duplicate(index, plan);
      return true;
    case Kind::kShift: {
      const std::vector<uint32_t> before = transfer.samples;
      ShiftSample(
          rng,
          needed[static_cast<size_t>(Draw(rng, 0, std::ssize(needed) - 1))],
          plan, transfer);
      return transfer.samples != before;
    }
    case Kind::kSwapRank:
      return SwapDestination(rng, input.topology, transfer);
  }
  return false;
}

// --- Both
// ---------------------------------------------------------------------

// Spoils plans of random inputs in every way; each spoiled one must be refused.
template <typename RandomInput, typename MakePlan, typename Validate>
void CheckSpoiledRefused(int cases, Rng& rng, RandomInput random_input,
                         MakePlan make_plan, Validate validate) {
  int refused[std::size(kKinds)] = {};
  for (int i = 0; i < cases; ++i) {
    const auto input = random_input(rng);
    REQUIRE_OK_AND_ASSIGN(const TransferPlan plan,
                          make_plan(input, PlanningLimits()));
    if (plan.transfers.empty()) continue;
    for (const Kind kind : kKinds) {
      for (int k = 0; k < 3; ++k) {
        TransferPlan spoiled = plan;
        if (!Tamper(rng, kind, input, spoiled)) continue;
        Dress(input, spoiled);
        CAPTURE(Catch::rngSeed(), i, k, NameOf(kind));
        REQUIRE_THAT(validate(input, spoiled),
                     StatusIs(absl::StatusCode::kInternal));
        ++refused[static_cast<int>(kind)];
      }
    }
  }
  for (const int of_kind : refused) CHECK(of_kind > cases);
}

TEST_CASE("a spoiled plan of parameters is always refused", "[planner]") {
  Rng rng(Catch::rngSeed());
  CheckSpoiledRefused(NumCases(600), rng, RandomReshard, PlanReshard,
                      ValidateReshard);
}

TEST_CASE("a spoiled plan of samples is always refused", "[planner]") {
  Rng rng(Catch::rngSeed() + 1);
  CheckSpoiledRefused(NumCases(1000), rng, RandomRedistribution,
                      PlanRedistribution, ValidateRedistribution);
}

// What Dress does is not what is refused.
TEST_CASE("a plan that was dressed and not changed passes", "[planner]") {
  const int cases = NumCases(100);
  Rng rng(Catch::rngSeed() + 2);
  for (int i = 0; i < cases; ++i) {
    CAPTURE(Catch::rngSeed(), i);
    const ReshardInput reshard = RandomReshard(rng);
    REQUIRE_OK_AND_ASSIGN(TransferPlan plan, PlanReshard(reshard));
    Dress(reshard, plan);
    CHECK_THAT(ValidateReshard(reshard, plan), IsOk());
    const RedistributionInput samples = RandomRedistribution(rng);
    REQUIRE_OK_AND_ASSIGN(plan, PlanRedistribution(samples));
    Dress(samples, plan);
    CHECK_THAT(ValidateRedistribution(samples, plan), IsOk());
  }
}

}  // namespace
}  // namespace sluice::coordinator
