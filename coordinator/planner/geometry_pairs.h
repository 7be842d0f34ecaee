#ifndef SLUICE_COORDINATOR_PLANNER_GEOMETRY_PAIRS_H_
#define SLUICE_COORDINATOR_PLANNER_GEOMETRY_PAIRS_H_

// The work of a reshard by kind of tensor: tensors of equal shape that the
// source holds alike and the destination holds alike, element types included,
// are planned once.

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/box.h"
#include "common/dtype.h"
#include "common/ids.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/rank_sets.h"

namespace sluice::coordinator {

struct HeldBox {
  Box box;
  RankSets::Id ranks = 0;  // everybody who holds it
};

struct GeometryPair {
  int32_t destination_placement = 0;
  // Ascending; equal in shape, in the source's and in the destination's type.
  std::vector<TensorIndex> tensors;
  // The type in which they cross (WireDType).
  DType wire_dtype = DType::kUnspecified;
  // Distinct boxes, ordered; those of different entries may overlap. Sources
  // are ranks of the input's source replicas only.
  std::vector<HeldBox> sources;
  std::vector<HeldBox> destinations;
};

// Returns the pairs of every destination placement, by (placement, first
// tensor); a tensor is in at most one pair per placement, and in none where
// nobody takes it. Errors: as ClassifyLayout; INVALID_ARGUMENT - no conversion
// between what source and destination hold (tensor, placements, types named).
absl::StatusOr<std::vector<GeometryPair>> PairGeometries(
    const ReshardInput& input, RankSets& sets);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_GEOMETRY_PAIRS_H_
