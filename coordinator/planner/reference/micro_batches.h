#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_MICRO_BATCHES_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_MICRO_BATCHES_H_

// A batch dealt to data-parallel ranks and cut into micro-batches, the same
// number on every rank: sharded parameters and pipeline schedules run one
// collective per micro-batch and hang otherwise.

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "coordinator/planner/reference/datapack.h"
#include "coordinator/planner/reference/sample_split.h"

namespace sluice::coordinator::reference {

struct MicroBatchSpec {
  int32_t num_ranks = 1;
  int32_t min_micro_batches = 1;       // per rank
  int64_t max_tokens = kNoTokenLimit;  // per micro-batch
  SplitRule rule = SplitRule::kBalanced;
  bool equal_numbers = true;  // of micro-batches on all ranks
};

struct MicroBatches {
  // By rank: its micro-batches, each the ascending indices of its samples.
  std::vector<Groups> ranks;
};

// Splits by rank first, by `rule` and without a limit, so that ranks are as
// even as SplitSamples makes them; then each rank's share into micro-batches of
// at most max_tokens. With equal_numbers every rank gets as many as the one
// that needs most; where a rank has too few samples for that, the whole batch
// is cut into micro-batches that are dealt to the ranks. The number of
// micro-batches is the least one that this finds.
// Errors: INVALID_ARGUMENT - less than one rank or micro-batch, a length below
// 0 or above max_tokens, fewer samples than ranks times min_micro_batches;
// FAILED_PRECONDITION - equal numbers need more micro-batches than there are
// samples.
absl::StatusOr<MicroBatches> SplitMicroBatches(
    absl::Span<const int64_t> lengths, const MicroBatchSpec& spec);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_MICRO_BATCHES_H_
