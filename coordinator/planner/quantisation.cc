#include "coordinator/planner/quantisation.h"

#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/box.h"
#include "common/layout.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

// The dimension in which a face of the box lies inside a block.
std::optional<int> CutDimension(const TensorSpec& tensor, const Box& box) {
  for (int d = 0; d < box.rank(); ++d) {
    const auto i = static_cast<size_t>(d);
    const Interval& dim = box.dim(d);
    const int64_t block = tensor.block[i];
    if (dim.lo % block != 0 ||
        (dim.hi % block != 0 && dim.hi != tensor.shape[i])) {
      return d;
    }
  }
  return std::nullopt;
}

std::optional<std::string> WarningOf(const TensorSpec& tensor,
                                     const TensorClass& held_alike,
                                     const PlacementGeometry& placement) {
  for (const TensorClass::Holder& holder : held_alike.holders) {
    for (const Box& box : holder.boxes) {
      if (box.empty()) continue;
      const std::optional<int> dim = CutDimension(tensor, box);
      if (!dim.has_value()) continue;
      const Rank rank =
          placement.mesh.ranks[static_cast<size_t>(holder.mesh_index)];
      return absl::StrCat("placement \"", placement.name, "\": tensor \"",
                          tensor.name, "\" box ", box.ToString(), " on rank ",
                          rank.value(), " cuts quantisation blocks of ",
                          absl::StrJoin(tensor.block, "x"), " in dimension ",
                          *dim);
    }
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> QuantisationWarnings(
    const ModelSpec& model, const PlacementGeometry& placement) {
  SLUICE_ASSIGN_OR_RETURN(
      const std::vector<TensorClass> classes,
      ClassifyLayout(model, *placement.layout, placement.mesh));
  std::vector<std::string> warnings;
  for (const TensorClass& held_alike : classes) {
    std::set<Shape> looked_at;  // blocks: held alike, they differ by them alone
    for (const TensorIndex index : held_alike.tensors) {
      const TensorSpec& tensor = model.tensor(index);
      if (tensor.block.empty() || !looked_at.insert(tensor.block).second) {
        continue;
      }
      std::optional<std::string> warning =
          WarningOf(tensor, held_alike, placement);
      if (warning.has_value()) warnings.push_back(*std::move(warning));
    }
  }
  return warnings;
}

absl::StatusOr<std::vector<std::string>> QuantisationWarnings(
    const ReshardInput& input) {
  SLUICE_ASSIGN_OR_RETURN(std::vector<std::string> warnings,
                          QuantisationWarnings(*input.model, input.source));
  for (const PlacementGeometry& to : input.destinations) {
    SLUICE_ASSIGN_OR_RETURN(const std::vector<std::string> more,
                            QuantisationWarnings(*input.model, to));
    warnings.insert(warnings.end(), more.begin(), more.end());
  }
  return warnings;
}

}  // namespace sluice::coordinator
