#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_TRACKER_UPDATE_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_TRACKER_UPDATE_H_

// The storage after a plan has been carried out. As AReaL's
// ModelFunctionCall.run_step (realhf/system/model_function_call.py), which
// records it before the transfer is even requested; here it is the caller's to
// do so when the transfer is done.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/planner/reference/process_topology.h"
#include "coordinator/planner/reference/redistribution.h"
#include "coordinator/planner/reference/storage_tracker.h"

namespace sluice::coordinator::reference {

// The job whose processes got the samples: topology ranks and where they run.
struct Workers {
  ProcessTopology topology;           // with the axes pipe, data, tensor
  std::vector<Rank> rank_to_storage;  // by topology rank
};

// After PlanGatherScatter(): a gather's samples are at its root, a scatter's at
// its peers, step by step. Owners stay.
// Errors: INVALID_ARGUMENT - the plan names a rank that the storage has not.
absl::Status ApplyGatherScatter(const RedistributionSteps& plan,
                                StorageTracker& storage);

// After PlanBroadcast() of `ids_by_data_index` to a job: each process has what
// its data index wants, and the data-parallel heads (last stage, tensor 0) own
// it, because what was loaded may be spread unevenly over the job.
// Errors: INVALID_ARGUMENT - the topology lacks an axis; another number of
// places than ranks or of lists than data indices; a rank the storage has not.
absl::Status ApplyBroadcast(
    const Workers& workers,
    absl::Span<const std::vector<std::string>> ids_by_data_index,
    absl::Span<const std::string> keys, StorageTracker& storage);

// After the job's call: its outputs are at the data-parallel heads, which own
// them. Errors as ApplyBroadcast.
absl::Status ApplyOutputs(
    const Workers& workers,
    absl::Span<const std::vector<std::string>> ids_by_data_index,
    absl::Span<const std::string> keys, StorageTracker& storage);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_TRACKER_UPDATE_H_
