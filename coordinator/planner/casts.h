#ifndef SLUICE_COORDINATOR_PLANNER_CASTS_H_
#define SLUICE_COORDINATOR_PLANNER_CASTS_H_

// What a reshard converts on the way, in a few lines.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/dtype.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

// Tensors that a destination placement holds in another type than the source.
struct Cast {
  std::string placement;  // the destination
  DType from = DType::kUnspecified;
  DType to = DType::kUnspecified;
  DType wire = DType::kUnspecified;  // `to`: cast at the source, else after it
  int64_t num_tensors = 0;

  bool at_source() const { return wire == to; }
  friend bool operator==(const Cast&, const Cast&) = default;
};

// Returns the casts of a reshard that can be planned, by destination placement
// and types. Errors: as ClassifyLayout.
absl::StatusOr<std::vector<Cast>> CastsOf(const ReshardInput& input);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_CASTS_H_
