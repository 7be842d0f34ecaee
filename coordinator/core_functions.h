#ifndef SLUICE_COORDINATOR_CORE_FUNCTIONS_H_
#define SLUICE_COORDINATOR_CORE_FUNCTIONS_H_

// The real core and planners, as the host takes them.

#include "absl/status/statusor.h"
#include "common/plan.h"
#include "coordinator/core/core_options.h"
#include "coordinator/host.h"

namespace sluice::coordinator {

// A core of its own. `options` must be valid.
CoreFunctions MakeCore(const CoreOptions& options);

// Plans by the kind of input, then proves the plan by the independent
// validator: nothing else may be dispatched.
// Errors: those of PlanReshard, PlanRedistribution and their validators.
absl::StatusOr<TransferPlan> PlanAndValidate(const PlanInput& input);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_FUNCTIONS_H_
