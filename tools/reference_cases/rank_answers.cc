#include "tools/reference_cases/rank_answers.h"

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/planner/reference/parallel_grid.h"
#include "coordinator/planner/reference/process_topology.h"
#include "coordinator/planner/reference/rank_mapping.h"
#include "coordinator/planner/reference/sync_groups.h"

namespace sluice::reference_cases {
namespace {

namespace reference = coordinator::reference;
using reference::AxisPosition;
using reference::ParallelGrid;
using reference::ProcessTopology;
using reference::RankMapping;
using reference::RankMappingInput;
using reference::SenderMapping;
using Json = nlohmann::json;

std::vector<AxisPosition> Positions(const Json& object) {
  std::vector<AxisPosition> positions;
  for (const auto& item : object.items()) {
    positions.push_back({item.key(), item.value().get<int32_t>()});
  }
  return positions;
}

template <typename T>
absl::StatusOr<Json> AsJson(const absl::StatusOr<T>& result) {
  if (!result.ok()) return result.status();
  return Json(*result);
}

absl::StatusOr<Json> Ask(const ProcessTopology& topology, const Json& query) {
  const std::string op = query.at("op");
  if (op == "get_rank") {
    return AsJson(topology.RankOf(Positions(query.at("coord"))));
  }
  if (op == "get_coord") {
    return AsJson(topology.CoordinateOf(query.at("rank")));
  }
  if (op == "get_dim") {
    return Json(topology.AxisSize(query.at("axis").get<std::string>()));
  }
  if (op == "filter_match") {
    return AsJson(topology.Match(Positions(query.at("filter"))));
  }
  if (op == "get_axis_list") {
    return AsJson(topology.AxisRanks(query.at("axis").get<std::string>(),
                                     query.at("idx")));
  }
  if (op == "get_axis_comm_lists") {
    return Json(topology.CommLists(query.at("axis").get<std::string>()));
  }
  if (op == "get_rank_repr") {
    reference::RankNameFormat format;
    format.omitted_axes = query.value("omit_axes", format.omitted_axes);
    format.inner_separator = query.value("inner_sep", format.inner_separator);
    format.outer_separator = query.value("outer_sep", format.outer_separator);
    return AsJson(topology.RankName(query.at("rank"), format));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "op: expected get_rank, get_coord, get_dim, filter_match, "
      "get_axis_list, get_axis_comm_lists or get_rank_repr, found \"",
      op, "\""));
}

Json OrNull(const std::optional<std::vector<int32_t>>& ranks) {
  return ranks.has_value() ? Json(*ranks) : Json();
}

absl::StatusOr<Json> ViewOf(const ParallelGrid& grid, int32_t rank) {
  SLUICE_ASSIGN_OR_RETURN(const reference::GridView view, grid.View(rank));
  Json stages = Json::array();
  for (int32_t s = 0; s < grid.topology().AxisSize("pipe"); ++s) {
    SLUICE_ASSIGN_OR_RETURN(const int32_t there, grid.RankInStage(rank, s));
    stages.push_back(there);
  }
  return Json{
      {"rank", rank},
      {"stage_id", view.stage},
      {"data_parallel_id", view.data_index},
      {"tensor_rank", view.tensor_index},
      {"is_first_stage", view.is_first_stage},
      {"is_last_stage", view.is_last_stage},
      {"model_rank", view.model_index},
      {"dp_group", view.data_group},
      {"pp_group", view.pipe_group},
      {"slice_group", OrNull(view.tensor_group)},
      {"model_proc_group", OrNull(view.model_process_group)},
      {"dp_proc_group", OrNull(view.data_process_group)},
      {"pp_proc_group", OrNull(view.pipe_process_group)},
      {"slice_proc_group", OrNull(view.tensor_process_group)},
      {"tp_dp_proc_group", OrNull(view.stage_process_group)},
      {"embedding_proc_group", OrNull(view.embedding_process_group)},
      {"position_embedding_proc_group", OrNull(view.position_process_group)},
      {"model_world_size", grid.ModelSize()},
      {"stage_to_global", std::move(stages)},
  };
}

// Numbers pairs of [address, gpu].
class GpuNumbers {
 public:
  std::vector<int32_t> Read(const Json& gpus) {
    std::vector<int32_t> numbers;
    for (const Json& gpu : gpus) {
      const auto next = static_cast<int32_t>(known_.size());
      numbers.push_back(known_.try_emplace(gpu.dump(), next).first->second);
    }
    return numbers;
  }

 private:
  std::map<std::string, int32_t> known_;
};

RankMappingInput ReadMappingInput(const Json& question) {
  RankMappingInput input;
  const Json& src = question.at("src");
  input.source = {src.at("tp"), src.at("pp"), src.at("ep"), src.at("dp")};
  const Json& dst = question.at("dst");
  input.destination = {dst.at("tp"), dst.at("pp"), dst.at("ep"),
                       dst.at("replicas"), dst.value("vllm", true)};
  input.variant = question.value("variant", "base") == "hep"
                      ? reference::MappingVariant::kHyperExpert
                      : reference::MappingVariant::kBase;
  input.colocated = question.value("colocated", false);
  input.sync_type = question.value("comm_type", "broadcast") == "p2p"
                        ? reference::SyncType::kPointToPoint
                        : reference::SyncType::kBroadcast;
  input.regroup_type = question.value("regroup", "alltoall") == "allgather"
                           ? reference::RegroupType::kAllGather
                           : reference::RegroupType::kAllToAll;
  GpuNumbers numbers;
  input.source_gpus = numbers.Read(question.value("src_gpus", Json::array()));
  input.destination_gpus =
      numbers.Read(question.value("dst_gpus", Json::array()));
  if (!question.contains("src_local_param_ranks")) return input;
  const Json& ranks = question["src_local_param_ranks"];
  for (size_t a = 0; a < ranks.size(); ++a) {
    const size_t copy = ranks[a].at(1);
    input.actors.push_back({static_cast<int32_t>(copy), ranks[a].at(0).at(copy),
                            question.at("src_dp_rank_of_actor").at(a)});
  }
  return input;
}

Json WriteMapping(const SenderMapping& mapping) {
  Json written = Json::array();
  for (const reference::Fanout& fanout : mapping) {
    written.push_back({fanout.sender, fanout.receivers});
  }
  return written;
}

SenderMapping ReadMapping(const Json& mapping) {
  SenderMapping read;
  for (const Json& fanout : mapping) {
    read.push_back({fanout.at(0), fanout.at(1)});
  }
  return read;
}

// The order of a stage's senders and its groups of disjoint ones.
void AddOrder(const std::string& stage, const SenderMapping& mapping,
              const RankMappingInput& input, Json& out) {
  const std::vector<reference::SourceActor> actors =
      input.actors.empty() ? reference::MegatronActors(input.source)
                           : input.actors;
  std::vector<int32_t> data_ranks, in_order;
  for (const reference::Fanout& fanout : mapping) {
    in_order.push_back(fanout.sender);
    data_ranks.push_back(actors[static_cast<size_t>(fanout.sender)].data_rank);
  }
  const std::vector<int32_t> senders =
      reference::SendersInTurns(mapping, data_ranks);
  out[stage + "_sorted_senders"] = senders;
  out[stage + "_sync_groups"] = reference::SplitSyncGroups(mapping, senders);
  out[stage + "_sync_groups_in_order"] =
      reference::SplitSyncGroups(mapping, in_order);
}

}  // namespace

absl::StatusOr<Json> AnswerTopology(const Json& question) {
  SLUICE_ASSIGN_OR_RETURN(
      const ProcessTopology topology,
      ProcessTopology::Create(question.at("axes"), question.at("dims")));
  Json coordinates = Json::array();
  const std::vector<int32_t> all = topology.AllCoordinates();
  const auto width = static_cast<int64_t>(topology.axes().size());
  for (int64_t r = 0; r < topology.world_size(); ++r) {
    coordinates.push_back(std::vector<int32_t>(all.begin() + r * width,
                                               all.begin() + (r + 1) * width));
  }
  Json lists = Json::object();
  for (const std::string& axis : topology.axes()) {
    lists[axis] = topology.CommLists(axis);
  }
  Json queries = Json::array();
  for (Json query : question.value("queries", Json::array())) {
    const absl::StatusOr<Json> result = Ask(topology, query);
    query.erase("result");
    query.erase("error");
    if (result.ok()) {
      query["result"] = *result;
    } else {
      query["error"] = result.status().ToString();
    }
    queries.push_back(std::move(query));
  }
  return Json{{"world_size", topology.world_size()},
              {"coords", std::move(coordinates)},
              {"comm_lists", std::move(lists)},
              {"queries", std::move(queries)}};
}

absl::StatusOr<Json> AnswerGrid(const Json& question) {
  SLUICE_ASSIGN_OR_RETURN(
      ProcessTopology topology,
      ProcessTopology::Create(question.at("axes"), question.at("dims")));
  std::optional<std::vector<int32_t>> mapping;
  const Json given = question.value("rank_mapping", Json());
  if (!given.is_null()) mapping = given.get<std::vector<int32_t>>();
  SLUICE_ASSIGN_OR_RETURN(
      const ParallelGrid grid,
      ParallelGrid::Create(std::move(topology), std::move(mapping)));
  Json created = Json::array();
  for (const reference::CreatedGroup& group : grid.CreationOrder()) {
    const bool nccl = group.backend == reference::GroupBackend::kNccl;
    created.push_back({group.ranks, nccl ? "nccl" : "gloo"});
  }
  Json globals = Json::array();  // by topology rank
  Json back = Json::array();
  for (int32_t r = 0; r < grid.topology().world_size(); ++r) {
    globals.push_back(grid.GlobalRank(r));
    back.push_back(grid.TopologyRank(grid.GlobalRank(r)));
  }
  Json views = Json::array();
  for (int32_t r = -1; r < grid.topology().world_size(); ++r) {
    SLUICE_ASSIGN_OR_RETURN(Json view, ViewOf(grid, r));
    views.push_back(std::move(view));
  }
  return Json{{"world_size", grid.topology().world_size()},
              {"p2p_groups", grid.PipelineNeighbours()},
              {"dp_groups", grid.topology().CommLists("data")},
              {"pipe_groups", grid.topology().CommLists("pipe")},
              {"model_groups", grid.topology().CommLists("tensor")},
              {"created_groups", std::move(created)},
              {"global_ranks", std::move(globals)},
              {"topology_ranks", std::move(back)},
              {"per_rank", std::move(views)}};
}

absl::StatusOr<Json> AnswerRankMapping(const Json& question) {
  const RankMappingInput input = ReadMappingInput(question);
  SLUICE_ASSIGN_OR_RETURN(const RankMapping mapping,
                          reference::MapRanks(input));
  const bool broadcast = mapping.sync_type == reference::SyncType::kBroadcast;
  const bool gather =
      mapping.regroup_type == reference::RegroupType::kAllGather;
  Json out = {
      {"tp_num_mapping", mapping.tensor_ratio},
      {"effective_comm_type", broadcast ? "broadcast" : "p2p"},
      {"effective_regroup_comm_type", gather ? "allgather" : "alltoall"},
      {"src_dp_ranks", mapping.copies},
      {"src_dp_ranks_except_routed", mapping.copies_except_routed},
      {"dst_ranks", mapping.replicas},
      {"stage1", WriteMapping(mapping.stage1)},
      {"stage2", WriteMapping(mapping.stage2)},
      {"regroup",
       mapping.regroup.has_value() ? Json(*mapping.regroup) : Json()},
      {"stage1_same_gpu_pairs", mapping.local_pairs},
      {"stage2_rounds", reference::DisjointRounds(mapping.stage2)},
  };
  AddOrder("stage1", mapping.stage1, input, out);
  if (input.variant == reference::MappingVariant::kHyperExpert) {
    const reference::SourceSizes& from = input.source;
    const reference::DestinationSizes& to = input.destination;
    out["ep_num_mapping"] = static_cast<double>(to.expert) / from.expert;
    out["hep_num_mapping"] = static_cast<double>(to.expert * to.tensor) /
                             (from.expert * from.tensor);
    out["routed"] = WriteMapping(mapping.routed);
    AddOrder("routed", mapping.routed, input, out);
  }
  return out;
}

absl::StatusOr<Json> AnswerSyncGroups(const Json& question) {
  const std::string fn = question.at("fn");
  if (fn == "collective_task_scheduler") {
    const std::vector<std::vector<int32_t>> tasks = question.at("tasks");
    return Json{{"batches", reference::CollectiveBatches(tasks)}};
  }
  const SenderMapping mapping = ReadMapping(question.at("mapping"));
  if (fn == "stage2_rounds") {
    return Json{{"rounds", reference::DisjointRounds(mapping)}};
  }
  if (fn != "split_sync_groups") {
    return absl::InvalidArgumentError(
        absl::StrCat("fn: expected split_sync_groups, stage2_rounds or "
                     "collective_task_scheduler, found \"",
                     fn, "\""));
  }
  std::vector<int32_t> order;
  for (const reference::Fanout& fanout : mapping) {
    order.push_back(fanout.sender);
  }
  return Json{{"groups", reference::SplitSyncGroups(mapping, order)}};
}

}  // namespace sluice::reference_cases
