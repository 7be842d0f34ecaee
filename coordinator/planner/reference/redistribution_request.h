#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_REDISTRIBUTION_REQUEST_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_REDISTRIBUTION_REQUEST_H_

// Who wants which samples: what the reference patterns are asked.

#include <cstdint>
#include <string>
#include <vector>

#include "common/ids.h"

namespace sluice::coordinator::reference {

// Ranks that want the same samples. A rank is in one group; an id once in it.
struct DestinationGroup {
  std::vector<Rank> ranks;
  std::vector<std::string> ids;
};

struct RedistributionRequest {
  std::vector<DestinationGroup> destinations;
  std::vector<std::string> keys;  // in order of planning, each once
  // Ranks [0, n), [n, 2n), ... share a node.
  int32_t ranks_per_node = 1;
};

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_REDISTRIBUTION_REQUEST_H_
