// Nothing on the coordinator's side grows with single deliveries (one tensor to
// one rank): not the plan, not a part, not the memory that making, proving and
// cutting it takes. A list of them anywhere on the way fails these tests.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <new>
#include <string>

#include "absl/strings/str_cat.h"
#include "bench/planner/published_cases.h"
#include "common/convert_plan.h"
#include "common/plan.h"
#include "coordinator/planner/planners.h"
#include "tests/support/status_matchers.h"

namespace {

// Bytes ever asked of the heap, counted by the operators below.
int64_t allocated_bytes = 0;

}  // namespace

void* operator new(size_t size) {
  allocated_bytes += static_cast<int64_t>(size);
  void* memory = std::malloc(size);
  if (memory == nullptr) std::abort();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t /*size*/) noexcept {
  std::free(memory);
}

namespace sluice::coordinator {
namespace {

struct Cost {
  int64_t tensors = 0;
  int64_t transfers = 0;
  int64_t deliveries = 0;  // of one tensor each
  int64_t part_bytes = 0;  // the largest on the wire
  int64_t heap_bytes = 0;  // ever allocated on the way
};

// 16 trainers in two stages with eight groups of experts, engines of eight
// ranks.
Cost CostOf(int64_t experts, int64_t replicas) {
  bench::PublishedCase moe;
  moe.model = "deepseek-v3";
  moe.trainer = {"megatron_moe",
                 {{"expert_parallel", 8}},
                 "pipe=2,data=8,context=1,tensor=1",
                 0};
  moe.rollout = {"vllm_moe",
                 {},
                 absl::StrCat("data=", replicas, ",attention_data=1,tensor=8"),
                 16};
  REQUIRE_OK_AND_ASSIGN(
      const ReshardInput input,
      bench::MakeReshardInput(
          moe, {{"num_hidden_layers", 19}, {"n_routed_experts", experts}}));
  Cost cost;
  cost.tensors = static_cast<int64_t>(input.model->tensors.size());
  const int64_t before = allocated_bytes;
  REQUIRE_OK_AND_ASSIGN(const TransferPlan plan, PlanReshard(input));
  REQUIRE_OK(ValidateReshard(input, plan));
  for (const PlanPart& part : SplitPlan(plan, input.topology.num_ranks())) {
    cost.part_bytes = std::max(
        cost.part_bytes, static_cast<int64_t>(ToProto(part).ByteSizeLong()));
  }
  cost.heap_bytes = allocated_bytes - before;
  cost.transfers = static_cast<int64_t>(plan.transfers.size());
  for (const Transfer& transfer : plan.transfers) {
    for (const TensorRun& run : transfer.params.tensors) {
      cost.deliveries += run.count;
    }
  }
  return cost;
}

TEST_CASE("a plan does not grow with its tensors", "[planner]") {
  const Cost few = CostOf(/*experts=*/64, /*replicas=*/8);
  const Cost many = CostOf(/*experts=*/512, /*replicas=*/8);
  CAPTURE(few.transfers, few.part_bytes, many.transfers, many.part_bytes);
  REQUIRE(many.tensors > 6 * few.tensors);
  REQUIRE(many.deliveries > 4 * few.deliveries);
  // Pieces of about equal size: how many there are hangs on the ranks alone.
  CHECK(many.transfers <= few.transfers + few.transfers / 4);
  CHECK(many.part_bytes <= few.part_bytes + few.part_bytes / 4);
}

// How much more of the heap more tensors take, beside what more transfers do.
int64_t HeapForTensors(const Cost& few, const Cost& many) {
  const int64_t each_transfer = few.heap_bytes / few.transfers;
  return many.heap_bytes - few.heap_bytes -
         (many.transfers - few.transfers) * each_transfer;
}

TEST_CASE("memory that planning takes does not grow with deliveries",
          "[planner]") {
  // More experts cost so much for each tensor ...
  const Cost few = CostOf(/*experts=*/64, /*replicas=*/32);
  const Cost many = CostOf(/*experts=*/256, /*replicas=*/32);
  // ... and no more where each goes to eight times as many ranks.
  const Cost few_spread = CostOf(/*experts=*/64, /*replicas=*/256);
  const Cost many_spread = CostOf(/*experts=*/256, /*replicas=*/256);
  const int64_t growth = HeapForTensors(few, many);
  const int64_t spread_growth = HeapForTensors(few_spread, many_spread);
  const int64_t more_deliveries =
      (many_spread.deliveries - few_spread.deliveries) -
      (many.deliveries - few.deliveries);
  CAPTURE(growth, spread_growth, more_deliveries);
  REQUIRE(more_deliveries > 200 * (many.tensors - few.tensors));
  // Two bytes for each would be seen.
  CHECK(spread_growth - growth < 2 * more_deliveries);
}

}  // namespace
}  // namespace sluice::coordinator
