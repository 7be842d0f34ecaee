#include "coordinator/core/compared_types.h"

#include <cstddef>

#include "common/dtype_conversion.h"
#include "common/layout.h"
#include "common/status_macros.h"

namespace sluice::coordinator {

absl::StatusOr<std::vector<DType>> ComparedTypes(const Placement& source,
                                                 const Placement& destination) {
  SLUICE_ASSIGN_OR_RETURN(std::vector<DType> from,
                          HeldTypes(*source.spec, *source.layout, source.mesh));
  SLUICE_ASSIGN_OR_RETURN(
      const std::vector<DType> to,
      HeldTypes(*destination.spec, *destination.layout, destination.mesh));
  if (from == to) return std::vector<DType>();
  for (size_t i = 0; i < from.size(); ++i) from[i] = WireDType(from[i], to[i]);
  return from;
}

}  // namespace sluice::coordinator
