#include "coordinator/planner/simulation/link_graph.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/coordinator/planner/simulation/small_links.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator::simulation {
namespace {

using ::sluice::testing::ClusterOf;
using ::sluice::testing::SmallLinks;
using ::sluice::testing::StatusIs;

// Nodes of 4 ranks and 2 cards.
LinkTable SmallTable() {
  LinkTable table = SmallLinks(4, /*rank_rate=*/100);
  table.node_latency = 1;
  table.network_latency = 2;
  return table;
}

LinkGraph GraphOf(const LinkTable& table, int32_t num_ranks) {
  absl::StatusOr<LinkGraph> graph =
      LinkGraph::Create(ClusterOf(table, num_ranks), table);
  REQUIRE(graph.ok());
  return *std::move(graph);
}

std::vector<std::string> Names(const LinkGraph& graph, int32_t source,
                               int32_t destination) {
  std::vector<std::string> names;
  const LinkPath path = graph.Path(Rank(source), Rank(destination));
  for (const int32_t link : path.span()) names.push_back(graph.Name(link));
  return names;
}

using Strings = std::vector<std::string>;

TEST_CASE("ranks stand on nodes in order and share their cards evenly",
          "[planner]") {
  const absl::StatusOr<Topology> topology = TopologyOf(SmallTable(), 6);
  REQUIRE(topology.ok());
  CHECK(topology->node_of_rank == std::vector<int32_t>{0, 0, 0, 0, 1, 1});
  CHECK(topology->card_of_rank == std::vector<int32_t>{0, 0, 1, 1, 0, 0});
  CHECK(topology->between_nodes_rate == 10);
  CHECK_THAT(TopologyOf(SmallTable(), 0).status(),
             StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_CASE("a transfer passes the links on its way", "[planner]") {
  const LinkGraph graph = GraphOf(SmallTable(), 8);
  CHECK(Names(graph, 1, 1) == Strings{"rank 1 memory"});
  CHECK(Names(graph, 1, 2) == Strings{"rank 1 out", "rank 2 in"});
  CHECK(Names(graph, 1, 6) == Strings{"node 0 card 0 out", "node 1 card 1 in"});
  CHECK(graph.Latency(Rank(1), Rank(1)) == 0);
  CHECK(graph.Latency(Rank(1), Rank(2)) == 1);
  CHECK(graph.Latency(Rank(1), Rank(6)) == 2);
}

TEST_CASE("cards behind the rank's link load it too", "[planner]") {
  LinkTable table = SmallTable();
  table.cards_behind_rank_link = true;
  CHECK(Names(GraphOf(table, 8), 1, 6) == Strings{"rank 1 out", "rank 6 in",
                                                  "node 0 card 0 out",
                                                  "node 1 card 1 in"});
}

TEST_CASE("what leaves its switch passes the way up and down", "[planner]") {
  LinkTable table = SmallTable();
  table.nodes_per_switch = 2;
  table.oversubscription = 4;
  const LinkGraph graph = GraphOf(table, 16);
  CHECK(Names(graph, 0, 4).size() == 2);  // one switch
  const LinkPath path = graph.Path(Rank(0), Rank(8));
  REQUIRE(path.size == 4);
  CHECK(graph.Name(path.links[2]) == "switch 0 up");
  CHECK(graph.Name(path.links[3]) == "switch 1 down");
  // 2 nodes of 2 cards of 10, over 4.
  CHECK(graph.capacities()[static_cast<size_t>(path.links[2])] == 10);
}

TEST_CASE("with rails cards of one number meet at their switch", "[planner]") {
  LinkTable table = SmallTable();
  table.rails = true;
  const LinkGraph graph = GraphOf(table, 8);
  CHECK(Names(graph, 0, 5).size() == 2);  // both use card 0
  CHECK(Names(graph, 0, 6) == Strings{"node 0 card 0 out", "node 1 card 1 in",
                                      "switch 0 up", "switch 1 down"});
}

TEST_CASE("topologies that fit no graph are refused", "[planner]") {
  absl::StatusOr<Topology> topology = TopologyOf(SmallTable(), 4);
  REQUIRE(topology.ok());
  topology->card_of_rank.pop_back();
  CHECK_THAT(LinkGraph::Create(*topology, SmallTable()).status(),
             StatusIs(absl::StatusCode::kInvalidArgument));
  topology->card_of_rank.push_back(-1);
  CHECK_THAT(LinkGraph::Create(*topology, SmallTable()).status(),
             StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace sluice::coordinator::simulation
