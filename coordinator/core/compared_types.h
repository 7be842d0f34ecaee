#ifndef SLUICE_COORDINATOR_CORE_COMPARED_TYPES_H_
#define SLUICE_COORDINATOR_CORE_COMPARED_TYPES_H_

// In which element types two placements of a model are compared, one of which
// may hold what the other has in fewer bytes.

#include <vector>

#include "absl/status/statusor.h"
#include "common/dtype.h"
#include "coordinator/core/placement.h"

namespace sluice::coordinator {

// Returns the type of each tensor in which a sync from `source` to
// `destination` carries it: there both have the same values. Empty if all
// tensors are held alike.
// Errors: as ClassifyLayout.
absl::StatusOr<std::vector<DType>> ComparedTypes(const Placement& source,
                                                 const Placement& destination);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_COMPARED_TYPES_H_
