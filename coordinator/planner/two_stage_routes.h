#ifndef SLUICE_COORDINATOR_PLANNER_TWO_STAGE_ROUTES_H_
#define SLUICE_COORDINATOR_PLANNER_TWO_STAGE_ROUTES_H_

// Pattern TWO_STAGE: who serves whom by the rank mapping
// (reference/rank_mapping.h) instead of by load.

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/planner/demand.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/rank_sets.h"
#include "coordinator/planner/reference/rank_mapping.h"
#include "coordinator/planner/source_selector.h"

namespace sluice::coordinator {

// The mapping's question for a reshard: sizes from the meshes' axes pipe and
// tensor and from the expert grid of the source's layout; whatever else there
// is counts as data parallel (an engine's attention_data too: each has all of
// attention). Sources with experts are mapped as hyper expert parallel.
// Errors: INVALID_ARGUMENT - another number of destinations than one; a source
// cut over other axes (FSDP shards), whose ranks hold no slice the mapping
// knows.
absl::StatusOr<reference::RankMappingInput> RankMappingOf(
    const ReshardInput& input);

// Whether a tensor is of routed experts, as all published checkpoints call
// them.
bool IsRoutedExpert(absl::string_view tensor);

// Routes demands between the ranks that the mapping pairs. A taker is served by
// its sender of stage 1, or by the receiver of stage 1 that passes things on to
// it, where that takes the same bytes itself: nothing goes through a rank that
// has no use for it. Where senders regroup their experts, one of the group that
// holds the bytes sends them.
class TwoStageRouter {
 public:
  // Errors: as RankMappingOf; INVALID_ARGUMENT - sizes the mapping refuses.
  static absl::StatusOr<TwoStageRouter> Create(const ReshardInput& input);

  // A rank that the mapping sends something else only.
  struct Unserved {
    int32_t demand = -1;  // position in the input; -1: all are served
    Rank rank = kNoRank;
  };

  // Appends the legs of one demand, number `index`: every missing rank gets it
  // once. `routed_expert`: whether it is of routed experts, which the mapping
  // may send other ways. Returns the first rank it leaves out.
  Unserved Route(const RankSets& sets, int32_t index, const Demand& demand,
                 bool routed_expert, std::vector<Leg>& legs) const;

 private:
  using Senders = absl::flat_hash_map<Rank, std::vector<Rank>>;

  TwoStageRouter() = default;
  // The first of a taker's senders that holds the demand; kNoRank for none.
  Rank SenderOf(const RankSets& sets, const Demand& demand,
                const Senders& senders, Rank taker) const;

  Senders stage1_;  // by taker, in the mapping's order
  Senders routed_;
  Senders passed_on_;  // by taker: receivers of stage 1 that serve it
  Senders regroup_;    // by sender: those it regroups routed experts with
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_TWO_STAGE_ROUTES_H_
