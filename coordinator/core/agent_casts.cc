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
  SLUICE_ASSIGN_OR_RETURN(const std::vector<DType> held,
                          HeldTypes(model, layout, mesh));
  for (size_t i = 0; i < held.size(); ++i) {
    const TensorSpec& tensor = model.tensors[i];
    if (CastsAgentsCarryOut(tensor.dtype, held[i])) continue;
    return absl::UnimplementedError(absl::StrCat(
        "layout \"", layout.name, "\": tensor \"", tensor.name, "\" is ",
        DTypeName(tensor.dtype), " and would be held as ", DTypeName(held[i]),
        ": agents do not convert between them yet"));
  }
  return absl::OkStatus();
}

}  // namespace sluice::coordinator
