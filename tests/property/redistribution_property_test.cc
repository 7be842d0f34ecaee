// Random redistributions by every pattern: carried out on real maps the plan
// brings every wanted tensor, the validator agrees, and tampering is caught.

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/planner/certificate.h"
#include "coordinator/planner/planners.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::IsOk;
using Rng = std::mt19937_64;

constexpr int kCases = 400;

int64_t Draw(Rng& rng, int64_t lo, int64_t hi) {
  return lo + static_cast<int64_t>(rng() % static_cast<uint64_t>(hi - lo + 1));
}

std::vector<Rank> RandomRanks(Rng& rng, int32_t num_ranks, int64_t count) {
  std::set<Rank> ranks;
  for (int64_t i = 0; i < count; ++i) {
    ranks.insert(Rank(static_cast<int32_t>(Draw(rng, 0, num_ranks - 1))));
  }
  return {ranks.begin(), ranks.end()};
}

RedistributionInput RandomInput(Rng& rng) {
  RedistributionInput input;
  const auto num_ranks = static_cast<int32_t>(Draw(rng, 1, 12));
  const int64_t nodes = Draw(rng, 1, 4);
  for (int32_t r = 0; r < num_ranks; ++r) {
    input.topology.node_of_rank.push_back(
        static_cast<int32_t>(Draw(rng, 0, nodes - 1)));
  }
  const int64_t samples = Draw(rng, 0, 24);
  const int64_t keys = Draw(rng, 1, 3);
  // Few different sets, as in real jobs, so that tensors group.
  std::vector<std::vector<Rank>> holder_sets, wanted_sets;
  for (int i = 0; i < 4; ++i) {
    holder_sets.push_back(RandomRanks(rng, num_ranks, Draw(rng, 1, 3)));
    wanted_sets.push_back(RandomRanks(rng, num_ranks, Draw(rng, 0, 8)));
  }
  for (int64_t s = 0; s < samples; ++s) {
    const std::vector<Rank>& wanted =
        wanted_sets[static_cast<size_t>(Draw(rng, 0, 3))];
    for (int64_t k = 0; k < keys; ++k) {
      SampleHolding holding;
      holding.entry.sample_id = absl::StrCat("s", 100 + s);
      holding.entry.key = absl::StrCat("key", k);
      holding.entry.dtype = k == 0 ? DType::kI32 : DType::kBF16;
      if (k == 2) holding.entry.trailing_shape = {3};
      for (int64_t n = Draw(rng, 0, 2); n >= 0; --n) {
        holding.entry.sequence_lengths.push_back(Draw(rng, 0, 600'000));
      }
      holding.holders = holder_sets[static_cast<size_t>(Draw(rng, 0, 3))];
      holding.owner = holding.holders[static_cast<size_t>(
          Draw(rng, 0, std::ssize(holding.holders) - 1))];
      input.holdings.push_back(std::move(holding));
      input.wanted.push_back(
          Draw(rng, 0, 4) > 0 ? wanted : RandomRanks(rng, num_ranks, 2));
    }
  }
  const Pattern patterns[] = {Pattern::kDirect, Pattern::kGatherScatter,
                              Pattern::kBroadcast};
  input.pattern = patterns[Draw(rng, 0, 2)];
  return input;
}

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

// Makes a changed plan consistent in everything that is not its work.
void Dress(const RedistributionInput& input, TransferPlan& plan) {
  int64_t wasted = 0;
  for (size_t i = 0; i < plan.transfers.size(); ++i) {
    Transfer& transfer = plan.transfers[i];
    transfer.id = static_cast<uint32_t>(i);
    transfer.link =
        input.topology.Between(transfer.source, transfer.destination);
    transfer.bytes = 0;
    for (const uint32_t s : transfer.samples) {
      transfer.bytes += plan.entries[s].num_bytes();
      for (size_t h = 0; h < input.holdings.size(); ++h) {
        if (!(input.holdings[h].entry == plan.entries[s])) continue;
        const std::vector<Rank>& holders = input.holdings[h].holders;
        const std::vector<Rank>& wanted = input.wanted[h];
        if (std::count(holders.begin(), holders.end(), transfer.destination) ||
            !std::count(wanted.begin(), wanted.end(), transfer.destination)) {
          wasted += plan.entries[s].num_bytes();
        }
      }
    }
  }
  plan.certificate = MakeCertificate(input.topology, plan.transfers,
                                     /*lower_bound_bytes=*/0, wasted);
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
  Rng rng(Catch::rngSeed());
  int64_t relays = 0;
  int64_t wasted = 0;
  for (int i = 0; i < kCases; ++i) {
    CAPTURE(Catch::rngSeed(), i);
    const RedistributionInput input = RandomInput(rng);
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
  CHECK(relays > kCases);  // the cases are not trivial
  CHECK(wasted > 0);
}

TEST_CASE("the validator passes no plan that leaves a want or reads too early",
          "[planner]") {
  Rng rng(Catch::rngSeed() + 1);
  int refused = 0;
  for (int i = 0; i < kCases; ++i) {
    const RedistributionInput input = RandomInput(rng);
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
  CHECK(refused > 2 * kCases);
}

}  // namespace
}  // namespace sluice::coordinator
