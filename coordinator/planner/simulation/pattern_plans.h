#ifndef SLUICE_COORDINATOR_PLANNER_SIMULATION_PATTERN_PLANS_H_
#define SLUICE_COORDINATOR_PLANNER_SIMULATION_PATTERN_PLANS_H_

// A reshard as other patterns would move it, to set beside PlanReshard(). For
// the simulator and the certificate only: transfers have ranks, bytes and
// order, but name no boxes. A collective is its legs, one to each receiver, as
// Sluice's agents run it.

#include <cstdint>

#include "absl/status/statusor.h"
#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/simulation/movement.h"

namespace sluice::coordinator::simulation {

// Each pattern fails with RESOURCE_EXHAUSTED where it needs more transfers.
inline constexpr int64_t kMaxPatternTransfers = int64_t{1} << 22;

// Per unit: the lowest holder gathers what it lacks from the lowest holder of
// each piece, then sends every taker what that lacks. A taker is served when
// the last gather of its unit is done.
absl::StatusOr<TransferPlan> GatherScatterPlan(const Movement& movement);

// Per piece: the holder with the most missing takers on its node, then the
// fewest deliveries so far, then the lowest rank sends it to all who miss it.
absl::StatusOr<TransferPlan> BroadcastPlan(const Movement& movement);

// By the rank mapping (reference/rank_mapping.h): senders regroup their experts
// where the mapping says so, then send their whole shards, as far as they are
// wanted, to the receivers of stage 1, which pass them on in stage 2: what the
// reference moves. (A plan of this pattern that agents run sends each rank no
// more than it wants, see two_stage_routes.h.)
// Errors: as TwoStageRouter::Create; FAILED_PRECONDITION - the mapping leaves a
// rank without something that it wants (how much is named).
absl::StatusOr<TransferPlan> TwoStagePlan(const ReshardInput& input,
                                          const Movement& movement);

}  // namespace sluice::coordinator::simulation

#endif  // SLUICE_COORDINATOR_PLANNER_SIMULATION_PATTERN_PLANS_H_
