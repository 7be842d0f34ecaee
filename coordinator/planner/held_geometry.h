#ifndef SLUICE_COORDINATOR_PLANNER_HELD_GEOMETRY_H_
#define SLUICE_COORDINATOR_PLANNER_HELD_GEOMETRY_H_

// What every agent of a placement holds of every tensor, for the validator: by
// class of tensors that are held alike, and compared with agents' own views.

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/box.h"
#include "common/dtype.h"
#include "common/layout.h"
#include "common/model.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

class HeldGeometry {
 public:
  struct Place {
    int32_t tensor_class = -1;  // -1: nobody holds it
    int32_t position = 0;       // among the tensors of its class
  };

  // Expanded views of all agents are compared with the classes where there are
  // few, those of one agent where there are many.
  // Errors: as ClassifyLayout and ExpandLayout; INVALID_ARGUMENT - an agent
  // holds an element in two overlapping views, with tensor, box and rank;
  // INTERNAL - an agent's views are not what its class says.
  static absl::StatusOr<HeldGeometry> Create(
      const ModelSpec& model, const PlacementGeometry& placement);

  // Returns the position of a rank in the mesh, or -1.
  int64_t MeshIndexOf(Rank rank) const {
    const auto at = static_cast<size_t>(rank.value());
    return at < index_of_rank_.size() ? index_of_rank_[at] : -1;
  }
  Place PlaceOf(TensorIndex tensor) const {
    return places_[static_cast<size_t>(tensor.value())];
  }
  absl::Span<const TensorIndex> TensorsOf(int32_t tensor_class) const {
    return classes_[static_cast<size_t>(tensor_class)].tensors;
  }
  // Returns the element type in which all its holders have a class.
  DType DTypeOf(int32_t tensor_class) const {
    return classes_[static_cast<size_t>(tensor_class)].dtype;
  }
  // Returns what an agent holds of each tensor of a class: disjoint boxes, none
  // empty.
  absl::Span<const Box> BoxesOf(int32_t tensor_class,
                                int64_t mesh_index) const {
    return classes_[static_cast<size_t>(tensor_class)].BoxesOn(mesh_index);
  }
  // Returns the classes of which an agent holds something, ascending.
  absl::Span<const int32_t> ClassesOf(int64_t mesh_index) const {
    return classes_of_index_[static_cast<size_t>(mesh_index)];
  }

 private:
  HeldGeometry() = default;

  void DropEmptyBoxes();
  absl::Status CheckDisjoint(const ModelSpec& model, const Mesh& mesh) const;
  absl::Status Audit(const ModelSpec& model,
                     const PlacementGeometry& placement) const;
  absl::Status AuditTypes(const ModelSpec& model, Rank rank,
                          const RankLayout& layout,
                          absl::Span<const View> views) const;
  absl::Status AuditAgent(const ModelSpec& model, Rank rank,
                          const RankLayout& layout) const;

  std::vector<int64_t> index_of_rank_;
  std::vector<TensorClass> classes_;
  std::vector<Place> places_;  // by tensor
  std::vector<std::vector<int32_t>> classes_of_index_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_HELD_GEOMETRY_H_
