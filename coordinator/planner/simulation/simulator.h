#ifndef SLUICE_COORDINATOR_PLANNER_SIMULATION_SIMULATOR_H_
#define SLUICE_COORDINATOR_PLANNER_SIMULATION_SIMULATOR_H_

// How long a plan takes on a cluster that is not at hand. Pure: no clock.
//
// As agents run it: a rank works with all its peers at once and with each in
// plan order, the next transfer made ready while one flows; one that waits for
// what it reads (reads_after) is passed over until that is there, whole. A
// transfer waits one message's latency and then flows at its max-min fair share
// of the links on its way (link_graph.h). Rounds are an order, no barriers.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/link_table.h"
#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator::simulation {

struct SimulationOptions {
  // Transfers under way at once from one rank to another.
  int32_t peer_window = 2;
  // Transfers that a rank receives at once of each link class; 0: no limit.
  int32_t receive_window = 0;
  // Plans of up to so many transfers get exact shares at every start and end.
  // In larger ones all shares are found anew about `num_steps` times in all
  // (more seldom while more than max_step_flows flow); in between, a transfer
  // that starts takes what is left on its way, at least an equal part, and
  // those that flow already keep their share.
  int64_t max_exact_transfers = 4000;
  int64_t num_steps = 2000;
  int64_t max_step_flows = 10000;
  size_t num_busiest = 8;  // links to report
};

struct TransferTimes {
  double start = 0;  // seconds; before the latency
  double end = 0;
};

struct LinkUse {
  std::string name;
  int64_t bytes = 0;
  double seconds = 0;  // bytes / capacity: busy at full rate
};

struct SimulationResult {
  double seconds = 0;                    // no less than the busiest link takes
  std::vector<TransferTimes> transfers;  // by id
  std::vector<LinkUse> busiest;          // descending seconds, then by link
  int64_t num_solved = 0;                // times that all shares were found
};

// Errors: INVALID_ARGUMENT - a transfer whose id is not its position, that
// names a rank the topology lacks, reads after one that is no earlier, or has
// negative bytes; a peer window, number of steps or of flows below 1; as
// LinkGraph::Create.
absl::StatusOr<SimulationResult> Simulate(
    const TransferPlan& plan, const Topology& topology, const LinkTable& table,
    const SimulationOptions& options = {});

}  // namespace sluice::coordinator::simulation

#endif  // SLUICE_COORDINATOR_PLANNER_SIMULATION_SIMULATOR_H_
