#include "tools/reference_cases/dispatch_answers.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/ids.h"
#include "common/status_macros.h"
#include "coordinator/planner/reference/call_dispatch.h"
#include "coordinator/planner/reference/redistribution.h"
#include "coordinator/planner/reference/sample_split.h"
#include "coordinator/planner/reference/storage_tracker.h"
#include "coordinator/planner/reference/tracker_update.h"
#include "tools/reference_cases/storage_json.h"

namespace sluice::reference_cases {
namespace {

namespace reference = coordinator::reference;

// Who gets which samples.
Json WriteCall(const Json& asked, const reference::CallDispatch& call) {
  Json partitioned = Json::array();
  for (const std::vector<std::string>& ids : call.ids_of_data) {
    partitioned.push_back(WriteIds(ids));
  }
  Json out = {{"sample_ids", WriteIds(call.ids)},
              {"partitions", call.split.partitions},
              {"partitioned_ids", std::move(partitioned)},
              {"dp_head_workers", WriteRanks(call.heads)}};
  if (asked.contains("buf_indices")) {
    Json& buffers = out["buf_indices_out"] = Json::array();
    for (const int32_t i : call.split.forward) {
      buffers.push_back(asked["buf_indices"].at(static_cast<size_t>(i)));
    }
  }
  return out;
}

// Plans the transfer and carries the call out.
absl::StatusOr<Json> RunCall(const Json& asked, int32_t ranks_per_node,
                             reference::SplitRule rule,
                             reference::StorageTracker& storage) {
  SLUICE_ASSIGN_OR_RETURN(const reference::Workers workers, ReadWorkers(asked));
  SLUICE_ASSIGN_OR_RETURN(
      const reference::CallDispatch call,
      reference::DispatchCall(
          {ReadIds(asked.at("ids")), asked.at("lens"), asked.at("is_generate")},
          workers, rule));
  Json out = WriteCall(asked, call);
  reference::RedistributionRequest request;
  request.destinations = call.destinations;
  request.keys = asked.at("input_keys").get<std::vector<std::string>>();
  request.ranks_per_node = ranks_per_node;
  SLUICE_ASSIGN_OR_RETURN(
      const reference::RedistributionSteps plan,
      reference::PlanGatherScatter(storage.Snapshot(), request));
  out["plan"] = WriteSteps(plan);
  out["requested_workers"] =
      WriteRanks(reference::RequestedWorkers(workers, plan.steps));
  out["n_main"] = workers.rank_to_storage.size();
  SLUICE_RETURN_IF_ERROR(reference::ApplyGatherScatter(plan, storage));
  out["tracker_after_transfer"] = WriteStorage(storage.Snapshot());
  const std::vector<std::string> outputs = asked.at("output_keys");
  SLUICE_RETURN_IF_ERROR(
      reference::ApplyOutputs(workers, call.ids_of_data, outputs, storage));
  out["tracker_after_outputs"] = WriteStorage(storage.Snapshot());
  return out;
}

}  // namespace

absl::StatusOr<Json> AnswerDispatch(const Json& question) {
  SLUICE_ASSIGN_OR_RETURN(reference::StorageTracker storage,
                          ReadStorage(question.at("initial_tracker")));
  const reference::SplitRule rule =
      question.value("rule", "reference") == "balanced"
          ? reference::SplitRule::kBalanced
          : reference::SplitRule::kReference;
  Json calls = Json::array();
  for (const Json& asked : question.at("rpcs")) {
    absl::StatusOr<Json> call =
        RunCall(asked, question.at("n_gpus_per_node"), rule, storage);
    if (!call.ok()) {
      return absl::Status(
          call.status().code(),
          absl::StrCat("rpcs[", calls.size(), "]: ", call.status().message()));
    }
    calls.push_back(*std::move(call));
  }
  return Json{{"rpcs", std::move(calls)}};
}

}  // namespace sluice::reference_cases
