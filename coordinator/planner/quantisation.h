#ifndef SLUICE_COORDINATOR_PLANNER_QUANTISATION_H_
#define SLUICE_COORDINATOR_PLANNER_QUANTISATION_H_

// Shards that cut quantisation blocks. They are planned all the same: bytes and
// scales move as they are, but who quantises or dequantises such a shard needs
// scales of its neighbours.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

// Returns a warning for each way in which tensors with TensorSpec::block are
// held with a face inside a block: names placement, tensor, box, rank and
// dimension. One for tensors that are held alike; empty if all is well.
// Errors: as ClassifyLayout.
absl::StatusOr<std::vector<std::string>> QuantisationWarnings(
    const ModelSpec& model, const PlacementGeometry& placement);

// Those of all placements of a reshard.
absl::StatusOr<std::vector<std::string>> QuantisationWarnings(
    const ReshardInput& input);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_QUANTISATION_H_
