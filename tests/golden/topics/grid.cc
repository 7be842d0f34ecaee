// Topic grid.

#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "coordinator/planner/reference/parallel_grid.h"
#include "coordinator/planner/reference/process_topology.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

using coordinator::reference::CreatedGroup;
using coordinator::reference::GridView;
using coordinator::reference::GroupBackend;
using coordinator::reference::ParallelGrid;
using coordinator::reference::ProcessTopology;

Json OrNull(const std::optional<std::vector<int32_t>>& ranks) {
  return ranks.has_value() ? Json(*ranks) : Json();
}

Json ViewOf(const ParallelGrid& grid, int32_t rank, const GridView& view) {
  Json stages = Json::array();
  for (int32_t s = 0; s < grid.topology().AxisSize("pipe"); ++s) {
    stages.push_back(*grid.RankInStage(rank, s));
  }
  return {
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

void CheckViews(const ParallelGrid& grid, CaseCheck& check) {
  for (Json expected : check.golden().at("per_rank")) {
    const int32_t rank = expected.at("rank");
    const absl::StatusOr<GridView> view = grid.View(rank);
    const std::string what = absl::StrCat("view of ", rank);
    if (!check.Ok(what, view.status())) continue;
    Json found = ViewOf(grid, rank, *view);
    // The reference never learns it outside the model; here everybody may ask.
    if (expected.at("model_world_size").is_object()) {
      expected.erase("model_world_size");
      found.erase("model_world_size");
    }
    check.Equal(what, expected, found);
  }
}

Json Created(const ParallelGrid& grid) {
  Json created = Json::array();
  for (const CreatedGroup& group : grid.CreationOrder()) {
    created.push_back(
        {group.ranks, group.backend == GroupBackend::kNccl ? "nccl" : "gloo"});
  }
  return created;
}

void CheckMapping(const ParallelGrid& grid, CaseCheck& check) {
  for (int32_t rank = 0; rank < grid.topology().world_size(); ++rank) {
    const Json& mapping = check.golden().at("rank_mapping");
    const int32_t global =
        mapping.is_null()
            ? rank
            : mapping.at(static_cast<size_t>(rank)).get<int32_t>();
    check.Equal(absl::StrCat("global rank of ", rank), global,
                grid.GlobalRank(rank));
    check.Equal(absl::StrCat("topology rank of ", global), rank,
                grid.TopologyRank(global));
  }
}

}  // namespace

void CheckGrid(CaseCheck& check) {
  const Json& golden = check.golden();
  absl::StatusOr<ProcessTopology> topology =
      ProcessTopology::Create(golden.at("axes"), golden.at("dims"));
  if (!topology.ok() && check.ExpectsRefusal()) {
    return check.Refused(topology.status());
  }
  if (!check.Ok("topology", topology.status())) return;
  std::optional<std::vector<int32_t>> mapping;
  if (!golden.at("rank_mapping").is_null()) mapping = golden["rank_mapping"];
  const absl::StatusOr<ParallelGrid> grid =
      ParallelGrid::Create(*std::move(topology), std::move(mapping));
  if (check.ExpectsRefusal()) return check.Refused(grid.status());
  if (!check.Ok("grid", grid.status())) return;
  check.Equal("world_size", golden.at("world_size"),
              grid->topology().world_size());
  check.Equal("p2p_groups", golden.at("p2p_groups"),
              grid->PipelineNeighbours());
  check.Equal("dp_groups", golden.at("dp_groups"),
              grid->topology().CommLists("data"));
  check.Equal("pipe_groups", golden.at("pipe_groups"),
              grid->topology().CommLists("pipe"));
  check.Equal("model_groups", golden.at("model_groups"),
              grid->topology().CommLists("tensor"));
  check.Equal("created_groups", golden.at("created_groups"), Created(*grid));
  CheckMapping(*grid, check);
  CheckViews(*grid, check);
}

}  // namespace sluice::golden
