#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_GATHER_SCATTER_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_GATHER_SCATTER_H_

// Pattern GATHER_SCATTER.

#include <vector>

#include "absl/types/span.h"
#include "coordinator/planner/rank_sets.h"
#include "coordinator/planner/reference/collective_step.h"

namespace sluice::coordinator::reference {

// Per key: gather from the owners, each what it owns, to the lowest of them;
// then scatter to who wants. A gather is left out where the root has it all,
// both where nobody misses anything. Steps of several keys with the same ranks
// and samples are one. All gathers come before all scatters.
//
// `tensors` is ordered by (sample, key), each pair once. Linear in tensors,
// wants and what is returned.
//
// The reference also gathers copies that owners of other samples happen to
// hold, so that a sample travels twice and an older copy may win; this does
// not.
std::vector<CollectiveStep> GatherScatter(
    absl::Span<const WantedTensor> tensors, RankSets& sets);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_GATHER_SCATTER_H_
