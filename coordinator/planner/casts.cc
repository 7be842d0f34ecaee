#include "coordinator/planner/casts.h"

#include <map>
#include <utility>

#include "common/dtype_conversion.h"
#include "common/layout.h"
#include "common/status_macros.h"

namespace sluice::coordinator {

absl::StatusOr<std::vector<Cast>> CastsOf(const ReshardInput& input) {
  const ModelSpec& model = *input.model;
  SLUICE_ASSIGN_OR_RETURN(
      const std::vector<DType> source,
      HeldTypes(model, *input.source.layout, input.source.mesh));
  std::vector<Cast> out;
  for (const PlacementGeometry& placement : input.destinations) {
    SLUICE_ASSIGN_OR_RETURN(
        const std::vector<DType> wanted,
        HeldTypes(model, *placement.layout, placement.mesh));
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
