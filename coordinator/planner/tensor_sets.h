#ifndef SLUICE_COORDINATOR_PLANNER_TENSOR_SETS_H_
#define SLUICE_COORDINATOR_PLANNER_TENSOR_SETS_H_

// The validator's view of what bundles move: transfers name the same few sets
// of tensors again and again, so each is expanded once.

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/dtype.h"
#include "common/model.h"
#include "common/plan.h"
#include "coordinator/planner/held_geometry.h"

namespace sluice::coordinator {

class TensorSets {
 public:
  using Id = int32_t;
  // Positions [begin, end) of a class of tensors.
  struct Part {
    int32_t tensor_class = 0;
    int32_t begin = 0;
    int32_t end = 0;
  };

  // The model must outlive it, and so must the transfers added.
  explicit TensorSets(const ModelSpec& model) : model_(model) {}

  // Returns the set of a transfer's tensors.
  // Errors: INTERNAL - none, a run that is empty or out of range, a tensor
  // twice, tensors of different shape; names the transfer.
  absl::StatusOr<Id> Add(const Transfer& transfer);

  // Ascending.
  absl::Span<const TensorIndex> Tensors(Id id) const {
    return sets_[static_cast<size_t>(id)].tensors;
  }
  // Returns the set as parts of a placement's classes, ascending. `placement`
  // numbers the geometries; the same one always comes with the same number.
  // Tensors that nobody holds are in class -1.
  absl::Span<const Part> PartsIn(Id id, size_t placement,
                                 const HeldGeometry& held) {
    return PlacedIn(id, placement, held).parts;
  }
  // Returns the element type in which a placement has all tensors of the set;
  // kUnspecified if there is none such.
  DType HeldAs(Id id, size_t placement, const HeldGeometry& held) {
    return PlacedIn(id, placement, held).held_as;
  }
  // Whether every tensor of `a` is in `b`.
  bool Within(Id a, Id b);

 private:
  struct Placed {
    std::vector<Part> parts;  // empty = not made
    DType held_as = DType::kUnspecified;
  };
  struct Set {
    std::vector<TensorIndex> tensors;
    std::vector<Placed> placed;  // by placement
  };

  const Placed& PlacedIn(Id id, size_t placement, const HeldGeometry& held);

  absl::StatusOr<std::vector<TensorIndex>> Expand(
      const Transfer& transfer) const;

  const ModelSpec& model_;
  std::vector<Set> sets_;
  absl::flat_hash_map<absl::string_view, Id> by_runs_;  // bytes of the runs
  absl::flat_hash_map<std::pair<Id, Id>, bool> within_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_TENSOR_SETS_H_
