#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

LinkClass Topology::Between(Rank a, Rank b) const {
  if (a == b) return LinkClass::kSameDevice;
  return node_of_rank[static_cast<size_t>(a.value())] ==
                 node_of_rank[static_cast<size_t>(b.value())]
             ? LinkClass::kSameNode
             : LinkClass::kBetweenNodes;
}

}  // namespace sluice::coordinator
