#include "coordinator/planner/casts.h"

#include <map>
#include <utility>

#include "common/dtype_conversion.h"
#include "common/layout.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

// The element type in which a placement holds each tensor.
absl::StatusOr<std::vector<DType>> HeldDTypes(
    const ModelSpec& model, const PlacementGeometry& placement) {
  SLUICE_ASSIGN_OR_RETURN(
      const std::vector<TensorClass> classes,
      ClassifyLayout(model, *placement.layout, placement.mesh));
  std::vector<DType> out(model.tensors.size(), DType::kUnspecified);
  for (const TensorClass& held_alike : classes) {
    for (const TensorIndex tensor : held_alike.tensors) {
      out[static_cast<size_t>(tensor.value())] = held_alike.dtype;
    }
  }
  return out;
}

}  // namespace

absl::StatusOr<std::vector<Cast>> CastsOf(const ReshardInput& input) {
  const ModelSpec& model = *input.model;
  SLUICE_ASSIGN_OR_RETURN(const std::vector<DType> source,
                          HeldDTypes(model, input.source));
  std::vector<Cast> out;
  for (const PlacementGeometry& placement : input.destinations) {
    SLUICE_ASSIGN_OR_RETURN(const std::vector<DType> wanted,
                            HeldDTypes(model, placement));
    std::map<std::pair<DType, DType>, int64_t> casts;
    for (size_t t = 0; t < source.size(); ++t) {
      if (source[t] != wanted[t]) ++casts[{source[t], wanted[t]}];
    }
    for (const auto& [types, count] : casts) {
      const auto [from, to] = types;
      out.push_back({placement.name, from, to, WireDType(from, to), count});
    }
  }
  return out;
}

}  // namespace sluice::coordinator
