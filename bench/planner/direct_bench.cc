// Redistributions of samples by the default pattern: every sample is on one
// rank and the two ranks of another pair want it, as where a batch is dealt
// anew over data-parallel groups of two.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/planner/measure.h"
#include "common/check.h"
#include "common/dtype.h"
#include "common/ids.h"
#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/planners.h"

namespace sluice::bench {
namespace {

using coordinator::RedistributionInput;

constexpr int32_t kRanksPerNode = 8;

RedistributionInput MakeInput(int32_t ranks, int64_t samples, int64_t keys) {
  RedistributionInput input;
  input.pattern = coordinator::Pattern::kDirect;
  for (int32_t r = 0; r < ranks; ++r) {
    input.topology.node_of_rank.push_back(r / kRanksPerNode);
    input.topology.card_of_rank.push_back(r % kRanksPerNode);
  }
  input.holdings.reserve(static_cast<size_t>(samples * keys));
  input.wanted.reserve(static_cast<size_t>(samples * keys));
  for (int64_t s = 0; s < samples; ++s) {
    // Lengths and places by arithmetic that mixes well enough.
    const uint64_t mixed = static_cast<uint64_t>(s) * 0x9e3779b97f4a7c15u;
    const auto length = static_cast<int64_t>(256 + (mixed >> 54));
    const auto holder = static_cast<int32_t>(s % ranks);
    const auto pair =
        static_cast<int32_t>((mixed >> 20) % static_cast<uint64_t>(ranks / 2));
    for (int64_t k = 0; k < keys; ++k) {
      coordinator::SampleHolding& held = input.holdings.emplace_back();
      held.entry.sample_id = absl::StrCat("sample-", 10000000 + s);
      held.entry.key = absl::StrCat("key", k);
      held.entry.dtype = DType::kF32;
      held.entry.sequence_lengths = {length};
      held.holders = {Rank(holder)};
      held.owner = Rank(holder);
      input.wanted.push_back({Rank(2 * pair), Rank(2 * pair + 1)});
    }
  }
  return input;
}

void Direct(benchmark::State& state) {
  const RedistributionInput input =
      MakeInput(static_cast<int32_t>(state.range(0)), state.range(1), 8);
  const PeakMemory peak;
  TransferPlan plan;
  for (auto _ : state) {
    auto made = coordinator::PlanRedistribution(input);
    SLUICE_CHECK_OK(made.status());
    plan = *std::move(made);
  }
  peak.Report(state);
  state.counters["transfers"] = static_cast<double>(plan.transfers.size());
  state.counters["bound_ratio"] = plan.certificate.bound_ratio;
}

void DirectValidation(benchmark::State& state) {
  const RedistributionInput input =
      MakeInput(static_cast<int32_t>(state.range(0)), state.range(1), 8);
  const auto plan = coordinator::PlanRedistribution(input);
  SLUICE_CHECK_OK(plan.status());
  for (auto _ : state) {
    SLUICE_CHECK_OK(coordinator::ValidateRedistribution(input, *plan));
  }
}

void Sizes(benchmark::internal::Benchmark* bench) {
  BestOfFive(bench->ArgNames({"ranks", "samples"})
                 ->Args({1024, 16384})
                 ->Args({1024, 65536})
                 ->Args({1024, 262144})
                 ->Args({1024, 1000000}));
}
BENCHMARK(Direct)->Apply(Sizes);
BENCHMARK(DirectValidation)->Apply(Sizes);

}  // namespace
}  // namespace sluice::bench
