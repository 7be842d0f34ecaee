#ifndef SLUICE_COORDINATOR_PLANNER_PLANNERS_H_
#define SLUICE_COORDINATOR_PLANNER_PLANNERS_H_

// The two planners and the validator: free functions of immutable inputs,
// single threaded, deterministic (ties by id), the same bytes for the same
// input. Every plan they return passes the validator.

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

// Plans a parameter sync: works per pair of layout classes and keeps bundles.
// Each destination element is written exactly once; sources are levelled, same
// device before same node before other nodes; each pair of placements has a
// tensor cross in the smaller of its two types; bytes that several agents of
// one node need cross the network once and fan out inside (round 1
// reads_after). Pattern kTwoStage: sources by the rank mapping instead
// (two_stage_routes.h). Errors: INVALID_ARGUMENT - a destination element nobody
// holds (tensor, box, rank named), element types without a conversion (tensor,
// placements, types named), a bad layout, sizes that the rank mapping refuses;
// FAILED_PRECONDITION - it sends a rank less than that wants (tensor, box, rank
// named); RESOURCE_EXHAUSTED - limits.
absl::StatusOr<TransferPlan> PlanReshard(const ReshardInput& input,
                                         const PlanningLimits& limits = {});

// Plans a redistribution by the input's pattern.
// Errors: INVALID_ARGUMENT - unspecified pattern, a rank out of range;
// RESOURCE_EXHAUSTED - limits.
absl::StatusOr<TransferPlan> PlanRedistribution(
    const RedistributionInput& input, const PlanningLimits& limits = {});

// Proves a plan, independently of the planners (own geometry, from expanded
// RankLayouts): every transfer's source holds the bytes by then, every wanted
// element arrives, exactly once for parameters, nothing is overwritten that is
// read later, bytes add up, links are classed right.
// Errors: INTERNAL - names transfer, tensor or sample, box and rank.
absl::Status ValidateReshard(const ReshardInput& input,
                             const TransferPlan& plan);
absl::Status ValidateRedistribution(const RedistributionInput& input,
                                    const TransferPlan& plan);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_PLANNERS_H_
