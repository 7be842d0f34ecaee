#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_GATHER_SCATTER_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_GATHER_SCATTER_H_

// Pattern GATHER_SCATTER.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/planner/rank_sets.h"
#include "coordinator/planner/reference/collective_step.h"

namespace sluice::coordinator::reference {

// The wanted tensors of one key, by sample; spans of equal length that outlive
// the call. Keys may share them: what is the same memory is read once.
struct WantedColumn {
  int32_t key = 0;
  absl::Span<const int32_t> samples;  // ascending
  absl::Span<const int32_t> owners;   // ranks that have it
  absl::Span<const RankSets::Id> wanted;
};

// Who has what: asked where a step might be left out.
struct HoldingQuestions {
  // Whether all that want a column's tensors have them.
  absl::FunctionRef<bool(size_t column)> satisfied;
  // Whether a rank has a column's tensors.
  absl::FunctionRef<bool(size_t column, Rank rank)> has_all;
};

// Per key: gather from the owners, each what it owns, to the lowest of them;
// then scatter to who wants. A gather is left out where the root has it all,
// both where nobody misses anything. Steps of several keys with the same ranks
// and samples are one. All gathers come before all scatters.
//
// `columns` ascend by key. Linear in tensors, wants and what is returned.
//
// The reference also gathers copies that owners of other samples happen to
// hold, so that a sample travels twice and an older copy may win; this does
// not.
std::vector<CollectiveStep> GatherScatter(
    absl::Span<const WantedColumn> columns, const HoldingQuestions& questions,
    const RankSets& sets);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_GATHER_SCATTER_H_
