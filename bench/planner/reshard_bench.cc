// Weight syncs of published models: planning with validation, a repeat from the
// cache, and how much of it an agent gets. Growth is shown over ranks.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/planner/measure.h"
#include "bench/planner/published_cases.h"
#include "common/check.h"
#include "common/convert_plan.h"
#include "common/plan.h"
#include "coordinator/core/plan_cache.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/planners.h"

namespace sluice::bench {
namespace {

using coordinator::ReshardInput;

ReshardInput InputOf(const PublishedCase& published) {
  absl::StatusOr<ReshardInput> input = MakeReshardInput(published);
  SLUICE_CHECK_OK(input.status());
  return *std::move(input);
}

TransferPlan PlanOf(const ReshardInput& input) {
  absl::StatusOr<TransferPlan> plan = coordinator::PlanReshard(input);
  SLUICE_CHECK_OK(plan.status());
  return *std::move(plan);
}

// Bytes of the largest part on the wire.
double LargestPartKiB(const TransferPlan& plan, int32_t num_ranks) {
  size_t largest = 0;
  for (const PlanPart& part : SplitPlan(plan, num_ranks)) {
    largest = std::max(largest, ToProto(part).ByteSizeLong());
  }
  return static_cast<double>(largest) / 1024;
}

// Planning and validation, as before a sync's first dispatch.
void PlanAndValidate(benchmark::State& state, const PublishedCase& published) {
  const ReshardInput input = InputOf(published);
  const PeakMemory peak;
  TransferPlan plan;
  for (auto _ : state) {
    plan = PlanOf(input);
    SLUICE_CHECK_OK(coordinator::ValidateReshard(input, plan));
  }
  peak.Report(state);
  state.counters["ranks"] = published.num_ranks();
  state.counters["tensors"] = static_cast<double>(input.model->tensors.size());
  state.counters["transfers"] = static_cast<double>(plan.transfers.size());
  state.counters["bound_ratio"] = plan.certificate.bound_ratio;
  state.counters["part_KiB"] = LargestPartKiB(plan, input.topology.num_ranks());
}

// What a coordinator does of a sync that it has planned before: names what the
// plan read, as OperationTracker does, and finds it.
void Repeat(benchmark::State& state, const PublishedCase& published) {
  const ReshardInput input = InputOf(published);
  const auto key = [&input] {
    std::string out = "model\ntrainer@1\nreplicas 0\nrollout@1";
    for (size_t r = 0; r < input.topology.node_of_rank.size(); ++r) {
      absl::StrAppend(&out, "\n", r, " node-", input.topology.node_of_rank[r]);
    }
    return out;
  };
  coordinator::PlanCache cache;
  cache.Put(key(),
            coordinator::CutPlan(PlanOf(input), input.topology.num_ranks()));
  for (auto _ : state) {
    const auto found = cache.Find(key());
    SLUICE_CHECK(found != nullptr);
    benchmark::DoNotOptimize(found);
  }
}

// DeepSeek-V3 from 128 * data ranks to half as many.
PublishedCase MoeOnRanks(int64_t data) {
  PublishedCase out = *FindPublishedCase("deepseek-v3-4096-to-2048");
  const auto trainers = static_cast<int32_t>(128 * data);
  out.name = absl::StrCat("deepseek-v3-", trainers, "-to-", trainers / 2);
  out.trainer.axes = absl::StrCat("pipe=16,data=", data, ",context=1,tensor=8");
  out.trainer.variables["expert_parallel"] = std::min<int64_t>(8 * data, 64);
  out.rollout.axes =
      absl::StrCat("data=", 2 * data, ",attention_data=1,tensor=32");
  out.rollout.first_rank = trainers;
  return out;
}

// 405B parameters in so many flat shards.
PublishedCase FlatOnRanks(int64_t shards) {
  PublishedCase out = *FindPublishedCase("llama-405b-fsdp-512-to-128");
  out.name = absl::StrCat("llama-405b-fsdp-", shards, "-to-128");
  out.trainer.axes = absl::StrCat("data=1,shard=", shards);
  out.rollout.first_rank = static_cast<int32_t>(shards);
  return out;
}

void RegisterCase(const PublishedCase& published) {
  BestOfFive(benchmark::RegisterBenchmark(
      absl::StrCat("Reshard/", published.name).c_str(),
      [published](benchmark::State& state) {
        PlanAndValidate(state, published);
      }));
}

bool RegisterAll() {
  for (const PublishedCase& published : PublishedCases()) {
    RegisterCase(published);
  }
  // The largest of each row is a published case.
  for (const int64_t data : {2, 4, 8, 16}) RegisterCase(MoeOnRanks(data));
  for (const int64_t shards : {64, 128, 256}) {
    RegisterCase(FlatOnRanks(shards));
  }
  for (const int64_t data : {2, 4, 8, 16, 32}) {
    const PublishedCase published = MoeOnRanks(data);
    BestOfFive(
        benchmark::RegisterBenchmark(
            absl::StrCat("Repeat/", published.name).c_str(),
            [published](benchmark::State& state) { Repeat(state, published); }),
        benchmark::kMicrosecond);
  }
  return true;
}

[[maybe_unused]] const bool registered = RegisterAll();

}  // namespace
}  // namespace sluice::bench
