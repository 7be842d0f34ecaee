#include "coordinator/planner/reference/parallel_grid.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice::coordinator::reference {
namespace {

// First and last of a pipe group; one process of a single stage.
std::vector<int32_t> EmbeddingRanks(const std::vector<int32_t>& pipe_group) {
  if (pipe_group.size() < 2) return pipe_group;
  return {pipe_group.front(), pipe_group.back()};
}

// Keeps each (ranks, backend) once, in order of first request.
class GroupList {
 public:
  void Add(std::vector<int32_t> ranks, GroupBackend backend) {
    if (known_.emplace(ranks, backend).second) {
      groups_.push_back({std::move(ranks), backend});
    }
  }
  void AddBoth(const std::vector<int32_t>& ranks) {
    Add(ranks, GroupBackend::kNccl);
    Add(ranks, GroupBackend::kGloo);
  }
  std::vector<CreatedGroup> Take() { return std::move(groups_); }

 private:
  std::set<std::pair<std::vector<int32_t>, GroupBackend>> known_;
  std::vector<CreatedGroup> groups_;
};

}  // namespace

absl::StatusOr<ParallelGrid> ParallelGrid::Create(
    ProcessTopology topology,
    std::optional<std::vector<int32_t>> rank_mapping) {
  for (const char* axis : {"pipe", "data", "tensor"}) {
    if (topology.AxisSize(axis) < 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "grid: expected an axis ", axis, " of at least 1, found ",
          topology.FindAxis(axis) < 0 ? "none" : "one of size 0"));
    }
  }
  if (topology.world_size() < 1) {
    return absl::InvalidArgumentError(
        "grid: expected at least one rank, found an axis of size 0");
  }
  ParallelGrid grid(std::move(topology));
  const auto world_size = static_cast<size_t>(grid.topology_.world_size());
  if (rank_mapping.has_value()) {
    grid.mapping_ = *std::move(rank_mapping);
  } else {
    grid.mapping_.resize(world_size);
    std::iota(grid.mapping_.begin(), grid.mapping_.end(), 0);
  }
  if (grid.mapping_.size() != world_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("grid: rank mapping: expected ", world_size,
                     " global ranks, found ", grid.mapping_.size()));
  }
  for (size_t rank = 0; rank < world_size; ++rank) {
    const int32_t global = grid.mapping_[rank];
    if (global < 0 ||
        !grid.topology_rank_of_.emplace(global, static_cast<int32_t>(rank))
             .second) {
      return absl::InvalidArgumentError(absl::StrCat(
          "grid: rank mapping: topology rank ", rank,
          ": expected a new global rank of at least 0, found ", global));
    }
  }
  return grid;
}

int32_t ParallelGrid::TopologyRank(int32_t global_rank) const {
  const auto it = topology_rank_of_.find(global_rank);
  return it == topology_rank_of_.end() ? -1 : it->second;
}

std::vector<int32_t> ParallelGrid::Processes(std::vector<int32_t> ranks) const {
  for (int32_t& rank : ranks) rank = GlobalRank(rank);
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

std::vector<int32_t> ParallelGrid::GroupOf(int32_t rank,
                                           absl::string_view axis) const {
  const int a = topology_.FindAxis(axis);
  int32_t stride = 1;
  for (size_t i = static_cast<size_t>(a) + 1; i < topology_.axes().size();
       ++i) {
    stride *= topology_.sizes()[i];
  }
  std::vector<int32_t> group(static_cast<size_t>(topology_.AxisSize(axis)));
  const int32_t first = rank - topology_.PositionOf(rank, a) * stride;
  for (size_t p = 0; p < group.size(); ++p) {
    group[p] = first + static_cast<int32_t>(p) * stride;
  }
  return group;
}

std::vector<int32_t> ParallelGrid::SliceOf(int32_t rank,
                                           absl::string_view axis) const {
  // The axis exists: Create() has looked.
  return *topology_.AxisRanks(
      axis, topology_.PositionOf(rank, topology_.FindAxis(axis)));
}

std::vector<std::pair<int32_t, int32_t>> ParallelGrid::PipelineNeighbours()
    const {
  const int pipe = topology_.FindAxis("pipe");
  std::vector<std::pair<int32_t, int32_t>> pairs;
  for (int32_t rank = 0; rank < topology_.world_size(); ++rank) {
    const std::vector<int32_t> group = GroupOf(rank, "pipe");
    const size_t next =
        static_cast<size_t>(topology_.PositionOf(rank, pipe)) + 1;
    pairs.emplace_back(GlobalRank(rank),
                       GlobalRank(group[next == group.size() ? 0 : next]));
  }
  return pairs;
}

std::vector<CreatedGroup> ParallelGrid::CreationOrder() const {
  GroupList groups;
  for (int32_t d = 0; d < topology_.AxisSize("data"); ++d) {
    groups.AddBoth(Processes(*topology_.AxisRanks("data", d)));
  }
  for (const std::vector<int32_t>& ranks : topology_.CommLists("data")) {
    groups.AddBoth(Processes(ranks));
  }
  for (const std::vector<int32_t>& ranks : topology_.CommLists("pipe")) {
    groups.AddBoth(Processes(ranks));
    groups.Add(Processes(EmbeddingRanks(ranks)), GroupBackend::kNccl);
    groups.Add({GlobalRank(ranks.front())}, GroupBackend::kNccl);
  }
  for (const std::vector<int32_t>& ranks : topology_.CommLists("tensor")) {
    groups.AddBoth(Processes(ranks));
  }
  for (int32_t p = 0; p < topology_.AxisSize("pipe"); ++p) {
    groups.Add(Processes(*topology_.AxisRanks("pipe", p)), GroupBackend::kNccl);
  }
  return groups.Take();
}

absl::StatusOr<GridView> ParallelGrid::View(int32_t topology_rank) const {
  GridView view;
  if (topology_rank == -1) return view;
  if (topology_rank < -1 || topology_rank >= topology_.world_size()) {
    return absl::OutOfRangeError(absl::StrCat("grid: expected a rank of [-1, ",
                                              topology_.world_size(),
                                              "), found ", topology_rank));
  }
  const auto position = [&](absl::string_view axis) {
    return topology_.PositionOf(topology_rank, topology_.FindAxis(axis));
  };
  view.stage = position("pipe");
  view.data_index = position("data");
  view.tensor_index = position("tensor");
  view.is_first_stage = view.stage == 0;
  view.is_last_stage = view.stage == topology_.AxisSize("pipe") - 1;
  const std::vector<int32_t> model = SliceOf(topology_rank, "data");
  view.model_index = static_cast<int32_t>(
      std::lower_bound(model.begin(), model.end(), topology_rank) -
      model.begin());
  view.data_group = GroupOf(topology_rank, "data");
  view.pipe_group = GroupOf(topology_rank, "pipe");
  view.tensor_group = GroupOf(topology_rank, "tensor");
  view.model_process_group = Processes(model);
  view.data_process_group = Processes(view.data_group);
  view.pipe_process_group = Processes(view.pipe_group);
  view.tensor_process_group = Processes(*view.tensor_group);
  view.stage_process_group = Processes(SliceOf(topology_rank, "pipe"));
  if (view.is_first_stage || view.is_last_stage) {
    view.embedding_process_group = Processes(EmbeddingRanks(view.pipe_group));
  }
  // The reference gives a single stage's group to its only process, which is
  // the first as well.
  if (view.is_first_stage) {
    view.position_process_group = Processes({view.pipe_group.front()});
  }
  return view;
}

int32_t ParallelGrid::ModelSize() const {
  return topology_.world_size() / topology_.AxisSize("data");
}

absl::StatusOr<int32_t> ParallelGrid::RankInStage(int32_t topology_rank,
                                                  int32_t stage) const {
  if (stage < 0 || stage >= topology_.AxisSize("pipe")) {
    return absl::OutOfRangeError(absl::StrCat("grid: expected a stage of [0, ",
                                              topology_.AxisSize("pipe"),
                                              "), found ", stage));
  }
  if (topology_rank == -1) return -1;
  if (topology_rank < -1 || topology_rank >= topology_.world_size()) {
    return absl::OutOfRangeError(absl::StrCat("grid: expected a rank of [-1, ",
                                              topology_.world_size(),
                                              "), found ", topology_rank));
  }
  return GroupOf(topology_rank, "pipe")[static_cast<size_t>(stage)];
}

std::ostream& operator<<(std::ostream& os, GroupBackend backend) {
  return os << (backend == GroupBackend::kNccl ? "nccl" : "gloo");
}

}  // namespace sluice::coordinator::reference
