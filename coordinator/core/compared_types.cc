#include "coordinator/core/compared_types.h"

#include <cstddef>

#include "common/dtype_conversion.h"
#include "common/layout.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

// One per tensor. What nobody holds is left as the model has it.
absl::StatusOr<std::vector<DType>> HeldTypes(const Placement& placement) {
  std::vector<DType> held;
  held.reserve(placement.spec->tensors.size());
  for (const TensorSpec& tensor : placement.spec->tensors) {
    held.push_back(tensor.dtype);
  }
  SLUICE_ASSIGN_OR_RETURN(
      const std::vector<TensorClass> classes,
      ClassifyLayout(*placement.spec, *placement.layout, placement.mesh));
  for (const TensorClass& held_alike : classes) {
    if (held_alike.dtype == DType::kUnspecified) continue;
    for (const TensorIndex index : held_alike.tensors) {
      held[static_cast<size_t>(index.value())] = held_alike.dtype;
    }
  }
  return held;
}

}  // namespace

absl::StatusOr<std::vector<DType>> ComparedTypes(const Placement& source,
                                                 const Placement& destination) {
  SLUICE_ASSIGN_OR_RETURN(std::vector<DType> from, HeldTypes(source));
  SLUICE_ASSIGN_OR_RETURN(const std::vector<DType> to, HeldTypes(destination));
  if (from == to) return std::vector<DType>();
  for (size_t i = 0; i < from.size(); ++i) from[i] = WireDType(from[i], to[i]);
  return from;
}

}  // namespace sluice::coordinator
