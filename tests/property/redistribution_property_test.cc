// Random redistributions by every pattern: carried out on real maps the plan
// brings every wanted tensor, the validator agrees, and tampering is caught.

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
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
using ::sluice::testing::Rng;

// --- The oracle -------------------------------------------------------------

using Name = std::pair<std::string, std::string>;

struct Arrival {
  int64_t transfer = -1;  // -1: held at the start
  int32_t round = -1;
};

// Runs the plan on one map per rank; "" if every want is met and nothing is
// read before it is there or delivered twice.
std::string RunPlan(const RedistributionInput& input,
                    const TransferPlan& plan) {
  std::map<Rank, std::multimap<Name, Arrival>> memory;
  for (const SampleHolding& holding : input.holdings) {
    for (const Rank rank : holding.holders) {
      memory[rank].insert(
          {{holding.entry.sample_id, holding.entry.key}, Arrival()});
    }
  }
  int32_t round = 0;
  for (const Transfer& transfer : plan.transfers) {
    if (transfer.round < round) return "rounds out of order";
    round = transfer.round;
    if (transfer.source == transfer.destination) return "to itself";
    for (const uint32_t s : transfer.samples) {
      if (s >= plan.entries.size()) return "no such entry";
      const Name name(plan.entries[s].sample_id, plan.entries[s].key);
      const int64_t from =
          transfer.reads_after ? int64_t{*transfer.reads_after} : -1;
      bool there = false;
      auto& source = memory[transfer.source];
      for (auto [it, end] = source.equal_range(name); it != end; ++it) {
        there |= it->second.transfer == from &&
                 (from < 0 || it->second.round < transfer.round);
      }
      if (!there) return absl::StrCat("not there: ", name.first);
      auto& destination = memory[transfer.destination];
      for (auto [it, end] = destination.equal_range(name); it != end; ++it) {
        if (it->second.transfer >= 0) return "delivered twice";
      }
      destination.insert({name, {transfer.id, transfer.round}});
    }
  }
  for (size_t i = 0; i < input.holdings.size(); ++i) {
    const SampleEntry& entry = input.holdings[i].entry;
    for (const Rank rank : input.wanted[i]) {
      if (memory[rank].count({entry.sample_id, entry.key}) == 0) {
        return "a want is not met";
      }
    }
  }
  return "";
}

Transfer& AnyOf(Rng& rng, TransferPlan& plan) {
  return plan.transfers[static_cast<size_t>(
      Draw(rng, 0, std::ssize(plan.transfers) - 1))];
}

void Tamper(Rng& rng, const RedistributionInput& input, TransferPlan& plan) {
  const auto any_rank = [&] {
    return Rank(
        static_cast<int32_t>(Draw(rng, 0, input.topology.num_ranks() - 1)));
  };
  switch (Draw(rng, 0, 6)) {
    case 0: {
      const auto gone =
          static_cast<uint32_t>(Draw(rng, 0, std::ssize(plan.transfers) - 1));
      plan.transfers.erase(plan.transfers.begin() + gone);
      for (Transfer& transfer : plan.transfers) {
        if (transfer.reads_after && *transfer.reads_after > gone) {
          --*transfer.reads_after;
        }
      }
      break;
    }
    case 1: {
      Transfer copy = AnyOf(rng, plan);
      copy.round = plan.transfers.back().round;
      plan.transfers.push_back(std::move(copy));
      break;
    }
    case 2: {
      std::vector<uint32_t>& samples = AnyOf(rng, plan).samples;
      samples.erase(samples.begin() + Draw(rng, 0, std::ssize(samples) - 1));
      break;
    }
    case 3:
      AnyOf(rng, plan).source = any_rank();
      break;
    case 4:
      AnyOf(rng, plan).destination = any_rank();
      break;
    case 5:
      AnyOf(rng, plan).reads_after.reset();
      break;
    default: {
      Transfer& transfer = AnyOf(rng, plan);
      transfer.reads_after = AnyOf(rng, plan).id;
      break;
    }
  }
}

TEST_CASE("plans of random redistributions meet every want", "[planner]") {
  const int cases = NumCases(1000);
  Rng rng(Catch::rngSeed());
  int64_t relays = 0;
  int64_t wasted = 0;
  for (int i = 0; i < cases; ++i) {
    CAPTURE(Catch::rngSeed(), i);
    const RedistributionInput input = RandomRedistribution(rng);
    REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanRedistribution(input));
    CHECK_THAT(RunPlan(input, plan), Catch::Equals(""));
    REQUIRE_THAT(ValidateRedistribution(input, plan), IsOk());
    REQUIRE_OK_AND_ASSIGN(const TransferPlan again, PlanRedistribution(input));
    CHECK(plan.transfers == again.transfers);
    CHECK(plan.entries == again.entries);
    CHECK(plan.certificate == again.certificate);
    for (const Transfer& transfer : plan.transfers) {
      relays += transfer.reads_after ? 1 : 0;
    }
    wasted += plan.certificate.wasted_bytes;
    if (input.pattern != Pattern::kGatherScatter) {
      CHECK(plan.certificate.wasted_bytes == 0);
    }
  }
  CHECK(relays > cases);  // the cases are not trivial
  CHECK(wasted > 0);
}

TEST_CASE("the validator passes no plan that leaves a want or reads too early",
          "[planner]") {
  const int cases = NumCases(500);
  Rng rng(Catch::rngSeed() + 1);
  int refused = 0;
  for (int i = 0; i < cases; ++i) {
    const RedistributionInput input = RandomRedistribution(rng);
    REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanRedistribution(input));
    for (int k = 0; k < 8 && !plan.transfers.empty(); ++k) {
      TransferPlan changed = plan;
      Tamper(rng, input, changed);
      if (changed.transfers == plan.transfers) continue;
      Dress(input, changed);
      CAPTURE(Catch::rngSeed(), i, k);
      const std::string fault = RunPlan(input, changed);
      if (fault.empty()) continue;
      CAPTURE(fault);
      REQUIRE(ValidateRedistribution(input, changed).code() ==
              absl::StatusCode::kInternal);
      ++refused;
    }
  }
  CHECK(refused > 2 * cases);
}

}  // namespace
}  // namespace sluice::coordinator
