#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_REDISTRIBUTION_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_REDISTRIBUTION_H_

// The reference patterns asked as the reference is asked: a storage, who wants
// which samples, and the keys. As AReaL's RedistribPlanner.derive_plan
// (realhf/system/redistributor.py).

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/planner/reference/collective_step.h"
#include "coordinator/planner/reference/redistribution_request.h"
#include "coordinator/planner/reference/storage_tracker.h"

namespace sluice::coordinator::reference {

struct RedistributionSteps {
  std::vector<std::string> ids;   // bytewise ascending; a step's samples
  std::vector<std::string> keys;  // as requested; a step's keys
  std::vector<CollectiveStep> steps;
};

// Nothing wanted, or no key, is no step. Both patterns ask the same of the
// storage.
// Errors: INVALID_ARGUMENT - a rank outside the storage or in two groups, an
// id twice in a group, a key twice, less than one rank per node; NOT_FOUND - a
// wanted (id, key) that no rank holds; FAILED_PRECONDITION - one that is held
// but was never owned.
absl::StatusOr<RedistributionSteps> PlanGatherScatter(
    const StorageSnapshot& storage, const RedistributionRequest& request);
absl::StatusOr<RedistributionSteps> PlanBroadcast(
    const StorageSnapshot& storage, const RedistributionRequest& request);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_REDISTRIBUTION_H_
