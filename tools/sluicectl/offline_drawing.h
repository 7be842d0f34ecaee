#ifndef SLUICE_TOOLS_SLUICECTL_OFFLINE_DRAWING_H_
#define SLUICE_TOOLS_SLUICECTL_OFFLINE_DRAWING_H_

// A plan as pictures: who sends how much to whom, and when.

#include <string>

#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/simulation/simulator.h"

namespace sluice::ctl {

// Up to this many ranks are drawn one by one; more, by node; more nodes than
// this, by runs of nodes.
inline constexpr int kMaxDrawn = 64;

// A graph for Graphviz. Copies inside a rank are left out.
std::string DrawDot(const TransferPlan& plan,
                    const coordinator::Topology& topology);

// A matrix, senders down and receivers across, darker for more bytes; each cell
// says its bytes when pointed at. Stands by itself in a browser.
std::string DrawSvg(const TransferPlan& plan,
                    const coordinator::Topology& topology);

// The simulated timeline as Chrome trace JSON (for ui.perfetto.dev): a process
// for each receiving rank, with as many tracks as it receives at once.
std::string DrawTrace(const TransferPlan& plan,
                      const coordinator::simulation::SimulationResult& times,
                      const coordinator::Topology& topology);

}  // namespace sluice::ctl

#endif  // SLUICE_TOOLS_SLUICECTL_OFFLINE_DRAWING_H_
