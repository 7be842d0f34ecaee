#ifndef SLUICE_COORDINATOR_CORE_DIGEST_COMPARE_H_
#define SLUICE_COORDINATOR_CORE_DIGEST_COMPARE_H_

// Do replicas and placements of one model hold the same values? Decided from
// digests of boxes, which add over disjoint boxes.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/box.h"
#include "common/digest_value.h"
#include "common/ids.h"
#include "common/model.h"

namespace sluice::coordinator {

// What one agent read of a placement.
struct AgentDigests {
  std::string agent;
  int64_t replica = 0;
  std::map<std::pair<TensorIndex, Box>, Digest> boxes;
};

struct PlacementDigests {
  std::string placement;  // for messages
  std::vector<AgentDigests> agents;
};

// Compares all replicas of all placements: equal boxes directly, tensors by the
// sum over boxes that cover them exactly once. `compared` counts the digests
// and sums that agreed.
// Errors: DATA_LOSS - digests differ: names tensor, box and agents; INTERNAL -
// digests that leave a hole in a tensor; UNIMPLEMENTED - two placements whose
// overlapping boxes have no exact cover cannot be compared (tensor named).
absl::Status ComparePlacements(const ModelSpec& model,
                               const std::vector<PlacementDigests>& placements,
                               int64_t* compared);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_DIGEST_COMPARE_H_
