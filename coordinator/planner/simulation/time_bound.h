#ifndef SLUICE_COORDINATOR_PLANNER_SIMULATION_TIME_BOUND_H_
#define SLUICE_COORDINATOR_PLANNER_SIMULATION_TIME_BOUND_H_

// How fast any plan can be on given links.

#include <string>

#include "common/link_table.h"
#include "coordinator/planner/simulation/movement.h"

namespace sluice::coordinator::simulation {

struct TimeBound {
  double seconds = 0;
  std::string limit;  // what sets it: "node 3 in"; empty: nothing moves
};

// Returns seconds that no plan can do without. The largest of
//   - what a rank wants and lacks, over all its links in;
//   - what a rank wants and has, over its memory (a copy);
//   - what a node wants and no rank of it has, over its cards; the same of the
//     nodes of one switch, over its way down, where that is narrower;
//   - what only some ranks (some nodes) have, over their links out, once;
// and one message's latency. A relay that a plan adds is no part of it.
TimeBound BoundSeconds(const Movement& movement, const LinkTable& table);

}  // namespace sluice::coordinator::simulation

#endif  // SLUICE_COORDINATOR_PLANNER_SIMULATION_TIME_BOUND_H_
