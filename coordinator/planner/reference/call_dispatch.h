#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_CALL_DISPATCH_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_CALL_DISPATCH_H_

// One call of a model on a batch: which data-parallel index gets which samples,
// who therefore wants what, and which workers take part. As AReaL's
// ModelFunctionCall.run_step (realhf/system/model_function_call.py).

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/planner/reference/redistribution.h"
#include "coordinator/planner/reference/sample_split.h"
#include "coordinator/planner/reference/tracker_update.h"

namespace sluice::coordinator::reference {

struct CallBatch {
  std::vector<std::string> ids;
  std::vector<int64_t> lengths;  // tokens of each
  bool is_generation = false;    // split by count: lengths say nothing yet
};

struct CallDispatch {
  SampleSplit split;
  std::vector<std::string> ids;                       // in the new order
  std::vector<std::vector<std::string>> ids_of_data;  // by data index
  // One group of ranks per data index.
  std::vector<DestinationGroup> destinations;
  std::vector<Rank> heads;  // by data index: last stage, tensor 0
};

// Errors: INVALID_ARGUMENT - as SplitSamples; another number of lengths than of
// ids; the topology lacks an axis or a rank; another number of places than
// ranks.
absl::StatusOr<CallDispatch> DispatchCall(
    const CallBatch& batch, const Workers& workers,
    SplitRule rule = SplitRule::kBalanced);

// Returns where the call runs, in order of the ranks, and then who else takes
// part in the transfer: roots and gathers' senders, in order of the plan.
std::vector<Rank> RequestedWorkers(const Workers& workers,
                                   absl::Span<const CollectiveStep> steps);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_CALL_DISPATCH_H_
