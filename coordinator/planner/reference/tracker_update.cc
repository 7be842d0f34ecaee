#include "coordinator/planner/reference/tracker_update.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::coordinator::reference {
namespace {

absl::Status Check(const Workers& workers, size_t num_lists) {
  const ProcessTopology& topology = workers.topology;
  for (const char* axis : {"pipe", "data", "tensor"}) {
    if (topology.FindAxis(axis) < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("workers: expected an axis ", axis, ", found none"));
    }
  }
  if (workers.rank_to_storage.size() !=
      static_cast<size_t>(topology.world_size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "workers: expected a place for each of ", topology.world_size(),
        " ranks, found ", workers.rank_to_storage.size()));
  }
  if (num_lists != static_cast<size_t>(topology.AxisSize("data"))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "workers: expected a list of ids for each of ",
        topology.AxisSize("data"), " data indices, found ", num_lists));
  }
  return absl::OkStatus();
}

// Adds to every process, or to the heads alone.
absl::Status AddTo(const Workers& workers, bool all,
                   absl::Span<const std::vector<std::string>> ids,
                   absl::Span<const std::string> keys,
                   StorageTracker& storage) {
  SLUICE_RETURN_IF_ERROR(Check(workers, ids.size()));
  const ProcessTopology& topology = workers.topology;
  const int pipe = topology.FindAxis("pipe");
  const int data = topology.FindAxis("data");
  const int tensor = topology.FindAxis("tensor");
  for (int32_t rank = 0; rank < topology.world_size(); ++rank) {
    const bool head =
        topology.PositionOf(rank, tensor) == 0 &&
        topology.PositionOf(rank, pipe) == topology.AxisSize("pipe") - 1;
    if (!head && !all) continue;
    SLUICE_RETURN_IF_ERROR(storage.Add(
        workers.rank_to_storage[static_cast<size_t>(rank)],
        ids[static_cast<size_t>(topology.PositionOf(rank, data))], keys, head));
  }
  return absl::OkStatus();
}

std::vector<std::string> Pick(const std::vector<std::string>& names,
                              absl::Span<const int32_t> numbers) {
  std::vector<std::string> picked;
  picked.reserve(numbers.size());
  for (const int32_t n : numbers) {
    picked.push_back(names[static_cast<size_t>(n)]);
  }
  return picked;
}

}  // namespace

absl::Status ApplyGatherScatter(const RedistributionSteps& plan,
                                StorageTracker& storage) {
  for (const CollectiveStep& step : plan.steps) {
    const std::vector<std::string> keys = Pick(plan.keys, step.keys);
    for (size_t p = 0; p < step.peers.size(); ++p) {
      const Rank receiver =
          step.kind == TransferKind::kGather ? step.root : step.peers[p];
      SLUICE_RETURN_IF_ERROR(storage.Add(receiver,
                                         Pick(plan.ids, step.samples[p]), keys,
                                         /*is_owner=*/false));
    }
  }
  return absl::OkStatus();
}

absl::Status ApplyBroadcast(
    const Workers& workers,
    absl::Span<const std::vector<std::string>> ids_by_data_index,
    absl::Span<const std::string> keys, StorageTracker& storage) {
  return AddTo(workers, /*all=*/true, ids_by_data_index, keys, storage);
}

absl::Status ApplyOutputs(
    const Workers& workers,
    absl::Span<const std::vector<std::string>> ids_by_data_index,
    absl::Span<const std::string> keys, StorageTracker& storage) {
  return AddTo(workers, /*all=*/false, ids_by_data_index, keys, storage);
}

}  // namespace sluice::coordinator::reference
