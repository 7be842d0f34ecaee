#include "coordinator/core/agent_casts.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/dtype_conversion.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

// Most layouts name no type: nothing need be classified for them.
bool MayCast(const Layout& layout) {
  return !layout.explicit_ranks.empty() ||
         std::any_of(layout.rules.begin(), layout.rules.end(),
                     [](const LayoutRule& rule) {
                       return rule.dtype != DType::kUnspecified;
                     });
}

}  // namespace

bool CastsAgentsCarryOut(DType own, DType held) {
  // Quantising needs scales, which agents have none of.
  return Convertible(own, held) && (own == held || !Quantises(own, held));
}

absl::Status CheckCasts(const ModelSpec& model, const Layout& layout,
                        const Mesh& mesh) {
  if (!MayCast(layout)) return absl::OkStatus();
  SLUICE_ASSIGN_OR_RETURN(const std::vector<TensorClass> classes,
                          ClassifyLayout(model, layout, mesh));
  for (const TensorClass& held_alike : classes) {
    if (held_alike.dtype == DType::kUnspecified) continue;  // held by nobody
    for (const TensorIndex index : held_alike.tensors) {
      const TensorSpec& tensor = model.tensor(index);
      if (CastsAgentsCarryOut(tensor.dtype, held_alike.dtype)) continue;
      return absl::UnimplementedError(
          absl::StrCat("layout \"", layout.name, "\": tensor \"", tensor.name,
                       "\" is ", DTypeName(tensor.dtype),
                       " and would be held as ", DTypeName(held_alike.dtype),
                       ": agents do not convert between them yet"));
    }
  }
  return absl::OkStatus();
}

}  // namespace sluice::coordinator
