#ifndef SLUICE_TESTS_COORDINATOR_PLANNER_SIMULATION_SMALL_LINKS_H_
#define SLUICE_TESTS_COORDINATOR_PLANNER_SIMULATION_SMALL_LINKS_H_

// Clusters whose figures can be computed by hand.

#include <catch2/catch.hpp>
#include <cstdint>

#include "absl/status/statusor.h"
#include "common/link_table.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/simulation/link_graph.h"

namespace sluice::testing {

// Nodes of `ranks_per_node` ranks and 2 cards; bytes per second: 1000 inside a
// device, `rank_rate` on a rank's link, 10 on a card. No latency.
inline LinkTable SmallLinks(int32_t ranks_per_node, double rank_rate) {
  LinkTable table;
  table.ranks_per_node = ranks_per_node;
  table.cards_per_node = 2;
  table.device_copy_rate = 1000;
  table.rank_rate = rank_rate;
  table.card_rate = 10;
  return table;
}

inline coordinator::Topology ClusterOf(const LinkTable& table,
                                       int32_t num_ranks) {
  const absl::StatusOr<coordinator::Topology> topology =
      coordinator::simulation::TopologyOf(table, num_ranks);
  REQUIRE(topology.ok());
  return *topology;
}

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_COORDINATOR_PLANNER_SIMULATION_SMALL_LINKS_H_
