#ifndef SLUICE_COORDINATOR_PLANNER_INPUT_CHECKS_H_
#define SLUICE_COORDINATOR_PLANNER_INPUT_CHECKS_H_

// What planners refuse before they plan.

#include <cstddef>

#include "absl/status/status.h"
#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

// Errors: INVALID_ARGUMENT - a bad model (as ModelSpec::Validate), no
// destination, a placement that is source and destination or listed twice, a
// source replica that does not exist or none at all, a mesh rank that does not
// exist, explicit views with holders that are no declared replicas;
// RESOURCE_EXHAUSTED - too many ranks.
absl::Status CheckReshardInput(const ReshardInput& input,
                               const PlanningLimits& limits);

// Errors: INVALID_ARGUMENT - an unspecified pattern, lists of unequal length, a
// tensor nobody holds, an owner that is no holder, ranks that do not exist or
// are not ascending, holdings out of order or listed twice, an empty id or key,
// no dtype, sizes that are negative or overflow; RESOURCE_EXHAUSTED - too many
// ranks.
absl::Status CheckRedistributionInput(const RedistributionInput& input,
                                      const PlanningLimits& limits);

// Errors: RESOURCE_EXHAUSTED.
absl::Status CheckTransferLimit(size_t num_transfers,
                                const PlanningLimits& limits);

// What a finished plan may move and stage.
// Errors: RESOURCE_EXHAUSTED - more bytes than may move, or bytes that cross
// between nodes with a staging budget below the smallest bucket.
absl::Status CheckMovedBytes(const Certificate& certificate,
                             const PlanningLimits& limits);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_INPUT_CHECKS_H_
