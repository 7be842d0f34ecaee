#ifndef SLUICE_COORDINATOR_PLANNER_VALIDATOR_GEOMETRY_H_
#define SLUICE_COORDINATOR_PLANNER_VALIDATOR_GEOMETRY_H_

// The validator's own geometry. It shares nothing with the planner: what agents
// hold comes from their expanded views, and coverage is shown by volumes of
// disjoint boxes.

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/box.h"
#include "common/model.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

// Returns the positions of two boxes with a common element; nullopt if all are
// disjoint. Boxes have equal rank. Sort and sweep.
std::optional<std::pair<size_t, size_t>> FindCommon(
    absl::Span<const Box> boxes);

// Returns a part of `target` that none of `boxes` (disjoint) covers; nullopt if
// they cover it all.
std::optional<Box> FindUncovered(const Box& target,
                                 absl::Span<const Box> boxes);

// What every agent of a placement holds of every tensor, by its views. Equal
// lists of boxes are kept once and have a number, their *way*.
class HeldGeometry {
 public:
  // Errors: as ExpandLayoutOnAll; INVALID_ARGUMENT - an agent holds an element
  // in two overlapping views, with tensor, box and rank.
  static absl::StatusOr<HeldGeometry> Create(
      const ModelSpec& model, const PlacementGeometry& placement);

  // Returns the position of a rank in the mesh, or -1.
  int64_t MeshIndexOf(Rank rank) const;
  // Returns how an agent holds a tensor; 0 = not at all.
  int32_t WayOf(int64_t mesh_index, TensorIndex tensor) const {
    return ways_[static_cast<size_t>(mesh_index)]
                [static_cast<size_t>(tensor.value())];
  }
  // Distinct boxes, disjoint.
  absl::Span<const Box> BoxesOf(int32_t way) const {
    return boxes_[static_cast<size_t>(way)];
  }

 private:
  HeldGeometry() = default;

  absl::Status AddAgent(const ModelSpec& model, Rank rank,
                        const RankLayout& layout);

  absl::flat_hash_map<Rank, int64_t> index_of_rank_;
  std::vector<std::vector<int32_t>> ways_;  // [mesh index][tensor]
  std::vector<std::vector<Box>> boxes_;     // by way
  absl::flat_hash_map<std::vector<Box>, int32_t> way_of_boxes_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_VALIDATOR_GEOMETRY_H_
