// Topic dispatch: calls on one storage, from the split to the outputs.

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/ids.h"
#include "coordinator/planner/reference/call_dispatch.h"
#include "coordinator/planner/reference/process_topology.h"
#include "coordinator/planner/reference/redistribution.h"
#include "coordinator/planner/reference/storage_tracker.h"
#include "coordinator/planner/reference/tracker_update.h"
#include "tests/golden/topics.h"
#include "tools/reference_cases/storage_json.h"

namespace sluice::golden {

using reference_cases::ReadIds;
using reference_cases::ReadStorage;
using reference_cases::WriteIds;
using reference_cases::WriteSteps;
using reference_cases::WriteStorage;
namespace {

namespace reference = coordinator::reference;

std::vector<Rank> ReadRanks(const Json& ranks) {
  std::vector<Rank> read;
  for (const Json& rank : ranks) read.push_back(Rank(rank.get<int32_t>()));
  return read;
}

Json WriteRanks(const std::vector<Rank>& ranks) {
  Json written = Json::array();
  for (const Rank rank : ranks) written.push_back(rank.value());
  return written;
}

void CompareDispatch(const Json& rpc, const std::string& where,
                     const reference::CallDispatch& call, CaseCheck& check) {
  std::vector<int64_t> buffers;
  for (const int32_t i : call.split.forward) {
    buffers.push_back(rpc.at("buf_indices").at(static_cast<size_t>(i)));
  }
  check.Equal(where + "buf_indices_out", rpc.at("buf_indices_out"), buffers);
  check.Equal(where + "sample_ids", rpc.at("sample_ids"), WriteIds(call.ids));
  check.Equal(where + "partitions", rpc.at("partitions"),
              call.split.partitions);
  Json partitioned = Json::array();
  for (const std::vector<std::string>& ids : call.ids_of_data) {
    partitioned.push_back(WriteIds(ids));
  }
  check.Equal(where + "partitioned_ids", rpc.at("partitioned_ids"),
              partitioned);
  check.Equal(where + "dp_head_workers", rpc.at("dp_head_workers"),
              WriteRanks(call.heads));
}

// Plans the transfer and carries the call out; returns whether it could.
bool RunCall(const Json& rpc, const std::string& where, int32_t ranks_per_node,
             const reference::Workers& workers,
             const reference::CallDispatch& call,
             reference::StorageTracker& storage, CaseCheck& check) {
  reference::RedistributionRequest request;
  request.destinations = call.destinations;
  request.keys = rpc.at("input_keys").get<std::vector<std::string>>();
  request.ranks_per_node = ranks_per_node;
  const auto plan = reference::PlanGatherScatter(storage.Snapshot(), request);
  if (!check.Ok(where + "plan", plan.status())) return false;
  const Json right = rpc.value("right", Json::object());
  check.Equal(where + "plan", right.value("plan_owner_only", rpc.at("plan")),
              WriteSteps(*plan));
  const std::vector<Rank> requested =
      reference::RequestedWorkers(workers, plan->steps);
  check.Equal(where + "requested_workers", rpc.at("requested_workers"),
              WriteRanks(requested));
  check.Equal(where + "n_main", rpc.at("n_main"),
              workers.rank_to_storage.size());
  check.Ok(where + "transfer", reference::ApplyGatherScatter(*plan, storage));
  check.Equal(where + "tracker_after_transfer",
              rpc.at("tracker_after_transfer"),
              WriteStorage(storage.Snapshot()));
  check.Ok(where + "outputs",
           reference::ApplyOutputs(
               workers, call.ids_of_data,
               rpc.at("output_keys").get<std::vector<std::string>>(), storage));
  check.Equal(where + "tracker_after_outputs", rpc.at("tracker_after_outputs"),
              WriteStorage(storage.Snapshot()));
  return true;
}

}  // namespace

void CheckDispatch(CaseCheck& check) {
  const Json& golden = check.golden();
  absl::StatusOr<reference::StorageTracker> storage =
      ReadStorage(golden.at("initial_tracker"));
  if (!check.Ok("initial_tracker", storage.status())) return;
  for (size_t i = 0; i < golden.at("rpcs").size(); ++i) {
    const Json& rpc = golden["rpcs"][i];
    const std::string where = absl::StrCat("rpcs[", i, "].");
    absl::StatusOr<reference::ProcessTopology> topology =
        reference::ProcessTopology::Create(rpc.at("axes"), rpc.at("dims"));
    if (!check.Ok(where + "topology", topology.status())) return;
    const reference::Workers workers = {*std::move(topology),
                                        ReadRanks(rpc.at("rank_to_worker"))};
    const absl::StatusOr<reference::CallDispatch> call =
        reference::DispatchCall(
            {ReadIds(rpc.at("ids")), rpc.at("lens"), rpc.at("is_generate")},
            workers, reference::SplitRule::kReference);
    if (!check.Ok(where + "call", call.status())) return;
    CompareDispatch(rpc, where, *call, check);
    if (!RunCall(rpc, where, golden.at("n_gpus_per_node"), workers, *call,
                 *storage, check)) {
      return;
    }
  }
}

}  // namespace sluice::golden
