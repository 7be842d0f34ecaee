#include "coordinator/planner/reference/call_dispatch.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::coordinator::reference {
namespace {

absl::Status Check(const CallBatch& batch, const Workers& workers) {
  const ProcessTopology& topology = workers.topology;
  for (const char* axis : {"pipe", "data", "tensor"}) {
    if (topology.AxisSize(axis) < 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "call: expected an axis ", axis, " of at least 1, found ",
          topology.FindAxis(axis) < 0 ? "none" : "one of size 0"));
    }
  }
  if (workers.rank_to_storage.size() !=
      static_cast<size_t>(topology.world_size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "call: expected a worker for each of ", topology.world_size(),
        " ranks, found ", workers.rank_to_storage.size()));
  }
  if (batch.lengths.size() != batch.ids.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("call: expected a length for each of ", batch.ids.size(),
                     " samples, found ", batch.lengths.size()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CallDispatch> DispatchCall(const CallBatch& batch,
                                          const Workers& workers,
                                          SplitRule rule) {
  SLUICE_RETURN_IF_ERROR(Check(batch, workers));
  const ProcessTopology& topology = workers.topology;
  const int32_t num_data = topology.AxisSize("data");
  const std::vector<int64_t> ones(batch.ids.size(), 1);
  CallDispatch call;
  SLUICE_ASSIGN_OR_RETURN(
      call.split, SplitSamples(batch.is_generation ? ones : batch.lengths,
                               {num_data, kNoTokenLimit, rule}));
  if (call.split.groups.size() != static_cast<size_t>(num_data)) {
    return absl::InvalidArgumentError(
        absl::StrCat("call: expected at most ", kNoTokenLimit,
                     " tokens per data index, found more"));
  }
  for (const int32_t i : call.split.forward) {
    call.ids.push_back(batch.ids[static_cast<size_t>(i)]);
  }
  for (int32_t d = 0; d < num_data; ++d) {
    const auto [begin, end] = call.split.partitions[static_cast<size_t>(d)];
    DestinationGroup& group = call.destinations.emplace_back();
    group.ids.assign(call.ids.begin() + begin, call.ids.begin() + end);
    call.ids_of_data.push_back(group.ids);
    SLUICE_ASSIGN_OR_RETURN(const std::vector<int32_t> ranks,
                            topology.AxisRanks("data", d));
    for (const int32_t rank : ranks) {
      group.ranks.push_back(workers.rank_to_storage[static_cast<size_t>(rank)]);
    }
    const AxisPosition head[] = {
        {"data", d}, {"pipe", topology.AxisSize("pipe") - 1}, {"tensor", 0}};
    SLUICE_ASSIGN_OR_RETURN(const std::vector<int32_t> heads,
                            topology.Match(head));
    for (const int32_t rank : heads) {
      call.heads.push_back(workers.rank_to_storage[static_cast<size_t>(rank)]);
    }
  }
  return call;
}

std::vector<Rank> RequestedWorkers(const Workers& workers,
                                   absl::Span<const CollectiveStep> steps) {
  std::vector<Rank> requested = workers.rank_to_storage;
  absl::flat_hash_set<Rank> known(requested.begin(), requested.end());
  const auto add = [&](Rank rank) {
    if (known.insert(rank).second) requested.push_back(rank);
  };
  for (const CollectiveStep& step : steps) {
    add(step.root);
    if (step.kind != TransferKind::kGather) continue;
    for (const Rank rank : step.peers) add(rank);
  }
  return requested;
}

}  // namespace sluice::coordinator::reference
