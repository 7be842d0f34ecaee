#include "coordinator/planner/reference/redistribution.h"

#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"
#include "common/status_macros.h"
#include "coordinator/planner/rank_sets.h"
#include "coordinator/planner/reference/broadcast.h"
#include "coordinator/planner/reference/gather_scatter.h"
#include "coordinator/planner/reference/wanted_samples.h"

namespace sluice::coordinator::reference {
namespace {

std::vector<CollectiveStep> StepsByGatherScatter(WantedSamples& wanted) {
  std::vector<WantedColumn> columns;
  if (wanted.num_samples() == 0) return {};
  for (size_t k = 0; k < wanted.num_keys(); ++k) {
    columns.push_back({static_cast<int32_t>(k), wanted.samples(),
                       wanted.owners(k), wanted.wanted()});
  }
  const auto satisfied = [&](size_t key) { return wanted.Satisfied(key); };
  const auto has_all = [&](size_t key, Rank rank) {
    return wanted.HasAll(key, rank);
  };
  return GatherScatter(columns, {satisfied, has_all}, wanted.sets());
}

std::vector<CollectiveStep> StepsByBroadcast(WantedSamples& wanted) {
  std::vector<WantedTensor> tensors;
  tensors.reserve(wanted.num_samples() * wanted.num_keys());
  for (size_t s = 0; s < wanted.num_samples(); ++s) {
    const absl::Span<const RankSets::Id> holders = wanted.HoldersOf(s);
    for (size_t k = 0; k < wanted.num_keys(); ++k) {
      tensors.push_back({static_cast<int32_t>(s), static_cast<int32_t>(k),
                         holders[k], wanted.wanted()[s]});
    }
  }
  return Broadcast(tensors, wanted.sets());
}

template <typename Pattern>
absl::StatusOr<RedistributionSteps> Plan(const StorageSnapshot& storage,
                                         const RedistributionRequest& request,
                                         Pattern pattern) {
  WantedSamples wanted(storage, request);
  SLUICE_RETURN_IF_ERROR(wanted.Read());
  RedistributionSteps plan;
  plan.steps = pattern(wanted);
  plan.ids = wanted.TakeIds();
  plan.keys = request.keys;
  return plan;
}

}  // namespace

absl::StatusOr<RedistributionSteps> PlanGatherScatter(
    const StorageSnapshot& storage, const RedistributionRequest& request) {
  return Plan(storage, request, StepsByGatherScatter);
}

absl::StatusOr<RedistributionSteps> PlanBroadcast(
    const StorageSnapshot& storage, const RedistributionRequest& request) {
  return Plan(storage, request, StepsByBroadcast);
}

}  // namespace sluice::coordinator::reference
