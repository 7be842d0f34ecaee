#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_PARALLEL_GRID_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_PARALLEL_GRID_H_

// The process groups of a pipe x data x tensor job, in the order in which every
// process must create them, and one process's view of them. As AReaL's
// ParallelGrid (realhf/base/topology.py).
//
// Two kinds of rank are easy to confuse. A *topology rank* is a position in the
// job; a *global rank* is the process that stands there (`rank_mapping`). What
// is called "group" below is of topology ranks, in axis order; a *process
// group* is of global ranks, ascending.

#include <cstdint>
#include <optional>
#include <ostream>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/planner/reference/process_topology.h"

namespace sluice::coordinator::reference {

enum class GroupBackend { kNccl, kGloo };

struct CreatedGroup {
  std::vector<int32_t> ranks;  // global, ascending
  GroupBackend backend = GroupBackend::kNccl;

  friend bool operator==(const CreatedGroup&, const CreatedGroup&) = default;
};

// What one process knows. A process outside the job has -1, empty and nullopt.
struct GridView {
  int32_t stage = -1;       // position on "pipe"
  int32_t data_index = -1;  // position on "data"
  int32_t tensor_index = -1;
  bool is_first_stage = false;
  bool is_last_stage = false;
  int32_t model_index = -1;  // in the ascending ranks of its data index
  std::vector<int32_t> data_group;
  std::vector<int32_t> pipe_group;
  std::optional<std::vector<int32_t>> tensor_group;
  std::optional<std::vector<int32_t>> model_process_group;
  std::optional<std::vector<int32_t>> data_process_group;
  std::optional<std::vector<int32_t>> pipe_process_group;
  std::optional<std::vector<int32_t>> tensor_process_group;
  // All of one stage: "tensor" x "data".
  std::optional<std::vector<int32_t>> stage_process_group;
  // First and last stage, for tied embeddings; null in between.
  std::optional<std::vector<int32_t>> embedding_process_group;
  std::optional<std::vector<int32_t>> position_process_group;
};

// Immutable.
class ParallelGrid {
 public:
  // Without a mapping, topology rank r is global rank r.
  // Errors: INVALID_ARGUMENT - the topology has no rank or lacks one of the
  // axes pipe, data, tensor; the mapping does not give each topology rank a
  // different global rank of at least 0.
  static absl::StatusOr<ParallelGrid> Create(
      ProcessTopology topology,
      std::optional<std::vector<int32_t>> rank_mapping = std::nullopt);

  const ProcessTopology& topology() const { return topology_; }
  int32_t GlobalRank(int32_t topology_rank) const {
    return mapping_[static_cast<size_t>(topology_rank)];
  }
  // Returns the topology rank of a member process, or -1.
  int32_t TopologyRank(int32_t global_rank) const;

  // Returns, for every topology rank, its global rank and that of the next
  // stage's process; the last stage's is the first's.
  std::vector<std::pair<int32_t, int32_t>> PipelineNeighbours() const;
  // Returns the process groups in order of creation, each (ranks, backend)
  // once: model replicas, data, pipe (with embedding and position), tensor,
  // stages.
  std::vector<CreatedGroup> CreationOrder() const;

  // Returns what the process at `topology_rank` knows; -1: a process that is
  // not a member.
  // Errors: OUT_OF_RANGE - no such rank.
  absl::StatusOr<GridView> View(int32_t topology_rank) const;
  // Returns the number of processes of one model replica.
  int32_t ModelSize() const;
  // Returns the topology rank in `stage` with the other positions of
  // `topology_rank`; -1 for a process that is not a member.
  // Errors: OUT_OF_RANGE - no such rank or stage.
  absl::StatusOr<int32_t> RankInStage(int32_t topology_rank,
                                      int32_t stage) const;

 private:
  explicit ParallelGrid(ProcessTopology topology)
      : topology_(std::move(topology)) {}

  // Global ranks of topology ranks, ascending.
  std::vector<int32_t> Processes(std::vector<int32_t> ranks) const;
  // The members of the rank's group along `axis`, by position.
  std::vector<int32_t> GroupOf(int32_t rank, absl::string_view axis) const;
  // The topology ranks that stand where `rank` stands on `axis`, ascending.
  std::vector<int32_t> SliceOf(int32_t rank, absl::string_view axis) const;

  ProcessTopology topology_;
  std::vector<int32_t> mapping_;  // topology rank -> global rank
  absl::flat_hash_map<int32_t, int32_t> topology_rank_of_;
};

std::ostream& operator<<(std::ostream& os, GroupBackend backend);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_PARALLEL_GRID_H_
