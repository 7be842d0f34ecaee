#ifndef SLUICE_COORDINATOR_PLANNER_SIMULATION_MOVEMENT_H_
#define SLUICE_COORDINATOR_PLANNER_SIMULATION_MOVEMENT_H_

// What has to move, whoever plans it: pieces of data with who has them and who
// wants them. Bounds of time and the plans of other patterns are made of it.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/rank_sets.h"

namespace sluice::coordinator::simulation {

// A piece that all of `holders` have and all of `takers` want.
struct Need {
  int32_t unit = 0;
  RankSets::Id holders = 0;
  RankSets::Id takers = 0;
  RankSets::Id missing = 0;  // takers that are no holders
  int64_t bytes = 0;
  std::vector<int32_t> shards;  // of the unit, that contain it
};

// What one rank, or several alike, hold of a unit as a whole.
struct Shard {
  RankSets::Id ranks = 0;
  int64_t bytes = 0;
};

// Things that a pattern treats as one: tensors held and wanted alike, or one
// key of one sample.
struct Unit {
  std::vector<Shard> shards;
  bool routed_experts = false;  // of a layer with experts
};

struct Movement {
  std::unique_ptr<const Topology> topology;
  std::unique_ptr<RankSets> sets;  // of that topology
  std::vector<Unit> units;
  std::vector<Need> needs;  // by unit
};

// Errors: as PairGeometries; INVALID_ARGUMENT - an element that nobody holds.
absl::StatusOr<Movement> MovementOf(const ReshardInput& input);
absl::StatusOr<Movement> MovementOf(const RedistributionInput& input);

}  // namespace sluice::coordinator::simulation

#endif  // SLUICE_COORDINATOR_PLANNER_SIMULATION_MOVEMENT_H_
