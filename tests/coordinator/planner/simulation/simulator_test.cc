#include "coordinator/planner/simulation/simulator.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <optional>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"
#include "coordinator/planner/simulation/link_graph.h"
#include "tests/coordinator/planner/simulation/small_links.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator::simulation {
namespace {

using ::sluice::testing::ClusterOf;
using ::sluice::testing::SmallLinks;
using ::sluice::testing::StatusIs;

// Nodes of 2 ranks with a card each.
LinkTable SmallTable() { return SmallLinks(2, /*rank_rate=*/100); }

void AddTransfer(TransferPlan& plan, const Topology& topology, int32_t source,
                 int32_t destination, int64_t bytes,
                 std::optional<uint32_t> reads_after = std::nullopt) {
  Transfer transfer;
  transfer.id = static_cast<uint32_t>(plan.transfers.size());
  transfer.kind = TransferKind::kSendRecv;
  transfer.source = Rank(source);
  transfer.destination = Rank(destination);
  transfer.link = topology.Between(transfer.source, transfer.destination);
  transfer.bytes = bytes;
  transfer.reads_after = reads_after;
  plan.transfers.push_back(transfer);
}

SimulationResult Run(const TransferPlan& plan, const Topology& topology,
                     const LinkTable& table,
                     const SimulationOptions& options = {}) {
  const absl::StatusOr<SimulationResult> result =
      Simulate(plan, topology, table, options);
  REQUIRE(result.ok());
  return *result;
}

TEST_CASE("a transfer takes its latency and its bytes over the slowest link",
          "[planner]") {
  LinkTable table = SmallTable();
  table.node_latency = 1;
  table.network_latency = 2;
  const Topology topology = ClusterOf(table, 4);
  TransferPlan plan;
  AddTransfer(plan, topology, 0, 0, 500);  // 0.5 s
  AddTransfer(plan, topology, 0, 1, 300);  // 1 s + 3 s
  AddTransfer(plan, topology, 0, 2, 50);   // 2 s + 5 s
  AddTransfer(plan, topology, 1, 3, 0);    // 2 s
  const SimulationResult result = Run(plan, topology, table);
  CHECK(result.transfers[0].end == Approx(0.5));
  CHECK(result.transfers[1].end == Approx(4));
  CHECK(result.transfers[2].end == Approx(7));
  CHECK(result.transfers[3].end == Approx(2));
  CHECK(result.seconds == Approx(7));
  REQUIRE_FALSE(result.busiest.empty());
  CHECK(result.busiest[0].name == "node 0 card 0 out");
  CHECK(result.busiest[0].bytes == 50);
  CHECK(result.busiest[0].seconds == Approx(5));
}

TEST_CASE("transfers into one card share it, and the rest speeds up",
          "[planner]") {
  const LinkTable table = SmallTable();
  const Topology topology = ClusterOf(table, 6);
  TransferPlan plan;
  AddTransfer(plan, topology, 0, 4, 50);   // 5 B/s to 10 s
  AddTransfer(plan, topology, 2, 4, 100);  // 5 B/s to 10 s, then 10 B/s
  const SimulationResult result = Run(plan, topology, table);
  CHECK(result.transfers[0].end == Approx(10));
  CHECK(result.transfers[1].end == Approx(15));
}

TEST_CASE("a relay starts when all of what it reads is there", "[planner]") {
  const LinkTable table = SmallTable();
  const Topology topology = ClusterOf(table, 4);
  TransferPlan plan;
  AddTransfer(plan, topology, 0, 2, 100);     // 10 s
  AddTransfer(plan, topology, 2, 3, 200, 0);  // 2 s more
  const SimulationResult result = Run(plan, topology, table);
  CHECK(result.transfers[1].start == Approx(10));
  CHECK(result.seconds == Approx(12));
}

TEST_CASE("a rank works with all its peers at once, unless told otherwise",
          "[planner]") {
  const LinkTable table = SmallTable();
  const Topology topology = ClusterOf(table, 8);
  TransferPlan plan;
  for (const int32_t source : {2, 4, 6}) {
    AddTransfer(plan, topology, source, 0, 100);
  }
  SimulationOptions options;
  SimulationResult result = Run(plan, topology, table, options);
  for (const TransferTimes& times : result.transfers) {
    CHECK(times.start == 0);
    CHECK(times.end == Approx(30));
  }
  options.receive_window = 1;
  result = Run(plan, topology, table, options);
  CHECK(result.transfers[0].end == Approx(10));
  CHECK(result.transfers[1].start == Approx(10));
  CHECK(result.transfers[2].end == Approx(30));
  options.receive_window = 2;
  result = Run(plan, topology, table, options);
  CHECK(result.transfers[1].end == Approx(20));
  CHECK(result.transfers[2].start == Approx(20));
}

TEST_CASE("two peers work in plan order, a window at a time", "[planner]") {
  const LinkTable table = SmallTable();
  const Topology topology = ClusterOf(table, 4);
  TransferPlan plan;
  for (int i = 0; i < 3; ++i) AddTransfer(plan, topology, 2, 0, 100);
  SimulationOptions options;
  options.peer_window = 1;
  SimulationResult result = Run(plan, topology, table, options);
  CHECK(result.transfers[0].end == Approx(10));
  CHECK(result.transfers[1].end == Approx(20));
  CHECK(result.transfers[2].end == Approx(30));
  options.peer_window = 2;
  result = Run(plan, topology, table, options);
  CHECK(result.transfers[1].end == Approx(20));
  CHECK(result.transfers[2].start == Approx(20));
}

TEST_CASE("what waits for its bytes does not hold up what does not",
          "[planner]") {
  const LinkTable table = SmallTable();
  const Topology topology = ClusterOf(table, 6);
  TransferPlan plan;
  AddTransfer(plan, topology, 0, 2, 200);     // 20 s
  AddTransfer(plan, topology, 2, 4, 100, 0);  // waits
  AddTransfer(plan, topology, 2, 4, 100);     // passes it: 10 s
  SimulationOptions options;
  options.peer_window = 1;
  const SimulationResult result = Run(plan, topology, table, options);
  CHECK(result.transfers[2].end == Approx(10));
  CHECK(result.transfers[1].end == Approx(30));
}

TEST_CASE("an oversubscribed switch is the slowest link", "[planner]") {
  LinkTable table = SmallTable();
  table.nodes_per_switch = 1;
  table.oversubscription = 4;  // 2 cards of 10 over 4: 5 B/s
  const Topology topology = ClusterOf(table, 4);
  TransferPlan plan;
  AddTransfer(plan, topology, 0, 2, 100);
  AddTransfer(plan, topology, 1, 3, 100);
  CHECK(Run(plan, topology, table).seconds == Approx(40));
}

TransferPlan RandomPlan(const Topology& topology, int64_t num_transfers,
                        uint32_t seed) {
  std::mt19937 random(seed);
  const auto num_ranks = static_cast<uint32_t>(topology.num_ranks());
  TransferPlan plan;
  for (int64_t i = 0; i < num_transfers; ++i) {
    const auto source = static_cast<int32_t>(random() % num_ranks);
    const auto destination = static_cast<int32_t>(random() % num_ranks);
    std::optional<uint32_t> reads_after;
    if (i > 0 && random() % 4 == 0) {
      reads_after = static_cast<uint32_t>(random() % static_cast<uint64_t>(i));
    }
    AddTransfer(plan, topology, source, destination,
                static_cast<int64_t>(1 + random() % 1000), reads_after);
  }
  return plan;
}

// The model itself in small steps of time: no events, no heaps, and shares that
// grow in small steps too.
class SlowSimulation {
 public:
  SlowSimulation(const TransferPlan& plan, const Topology& topology,
                 const LinkTable& table, int32_t window)
      : plan_(plan),
        graph_(*LinkGraph::Create(topology, table)),
        window_(window),
        left_(plan.transfers.size()),
        begins_(plan.transfers.size(), -1),
        ends_(plan.transfers.size(), -1) {
    for (const Transfer& transfer : plan.transfers) {
      left_[transfer.id] = static_cast<double>(transfer.bytes);
    }
  }

  double Seconds(double step) {
    double now = 0;
    while (std::count(ends_.begin(), ends_.end(), -1.0) > 0) {
      StartWhatCan(now);
      const std::vector<double> rates = Rates(now);
      now += step;
      for (const Transfer& transfer : plan_.transfers) {
        const uint32_t id = transfer.id;
        if (rates[id] == 0) continue;
        left_[id] -= rates[id] * step;
        if (left_[id] <= 0) ends_[id] = now;
      }
    }
    return now;
  }

 private:
  void StartWhatCan(double now) {
    for (const Transfer& transfer : plan_.transfers) {
      if (begins_[transfer.id] >= 0) continue;
      if (transfer.reads_after.has_value() &&
          ends_[*transfer.reads_after] < 0) {
        continue;
      }
      const auto together = std::count_if(
          plan_.transfers.begin(), plan_.transfers.end(),
          [&](const Transfer& other) {
            return begins_[other.id] >= 0 && ends_[other.id] < 0 &&
                   other.destination == transfer.destination &&
                   other.source == transfer.source;
          });
      if (together >= window_) continue;
      begins_[transfer.id] =
          now + graph_.Latency(transfer.source, transfer.destination);
    }
  }

  std::vector<double> Rates(double now) const {
    std::vector<double> rates(plan_.transfers.size());
    std::vector<double> used(graph_.capacities().size());
    std::vector<uint32_t> growing;
    for (const Transfer& transfer : plan_.transfers) {
      if (begins_[transfer.id] >= 0 && begins_[transfer.id] <= now &&
          ends_[transfer.id] < 0) {
        growing.push_back(transfer.id);
      }
    }
    constexpr double kStep = 0.05;
    while (!growing.empty()) {
      for (const uint32_t id : growing) {
        rates[id] += kStep;
        const LinkPath path = PathOf(id);
        for (const int32_t link : path.span()) {
          used[static_cast<size_t>(link)] += kStep;
        }
      }
      growing.erase(
          std::remove_if(growing.begin(), growing.end(),
                         [&](uint32_t id) {
                           const LinkPath path = PathOf(id);
                           return std::any_of(
                               path.span().begin(), path.span().end(),
                               [&](int32_t link) {
                                 const auto at = static_cast<size_t>(link);
                                 return used[at] >= graph_.capacities()[at];
                               });
                         }),
          growing.end());
    }
    return rates;
  }

  LinkPath PathOf(uint32_t id) const {
    return graph_.Path(plan_.transfers[id].source,
                       plan_.transfers[id].destination);
  }

  const TransferPlan& plan_;
  const LinkGraph graph_;
  const int32_t window_;
  std::vector<double> left_, begins_, ends_;
};

TEST_CASE("a random plan takes as long as in small steps of time",
          "[planner]") {
  LinkTable table = SmallTable();
  table.device_copy_rate = 80;
  table.rank_rate = 40;
  table.node_latency = 1;
  table.network_latency = 3;
  const Topology topology = ClusterOf(table, 6);
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    CAPTURE(seed);
    const TransferPlan plan = RandomPlan(topology, 24, seed);
    SimulationOptions options;
    options.peer_window = 1;
    const double fast = Run(plan, topology, table, options).seconds;
    const double slow = SlowSimulation(plan, topology, table, 1).Seconds(0.1);
    CHECK(fast == Approx(slow).epsilon(0.03));
  }
}

TEST_CASE("shares found now and then say nearly what exact ones say",
          "[planner]") {
  LinkTable table = SmallTable();
  table.network_latency = 0.01;
  const Topology topology = ClusterOf(table, 32);
  const TransferPlan plan = RandomPlan(topology, 2000, 7);
  const SimulationResult exact = Run(plan, topology, table);
  SimulationOptions options;
  options.max_exact_transfers = 0;
  options.num_steps = 200;
  const SimulationResult stepped = Run(plan, topology, table, options);
  CHECK(stepped.num_solved < exact.num_solved / 2);
  CHECK(stepped.seconds == Approx(exact.seconds).epsilon(0.03));
  // No link carries more than it can.
  CHECK(stepped.seconds >= stepped.busiest[0].seconds);
}

TEST_CASE("4,096 ranks that all send alike take as long as one", "[planner]") {
  LinkTable table = SmallTable();
  table.ranks_per_node = table.cards_per_node = 8;
  constexpr int32_t kRanks = 4096;
  constexpr int32_t kMessages = 32;
  const Topology topology = ClusterOf(table, kRanks);
  TransferPlan plan;
  for (int32_t m = 0; m < kMessages; ++m) {
    for (int32_t r = 0; r < kRanks; ++r) {
      AddTransfer(plan, topology, r, (r + 8 * (m + 1)) % kRanks, 100);
    }
  }
  const SimulationResult result = Run(plan, topology, table);
  // 32 messages of 100 bytes at 10 B/s out of and into each card.
  CHECK(result.seconds == Approx(320).epsilon(0.01));
}

TEST_CASE("the same plan takes the same time to the last bit", "[planner]") {
  const LinkTable table = SmallTable();
  const Topology topology = ClusterOf(table, 16);
  const TransferPlan plan = RandomPlan(topology, 300, 3);
  const SimulationResult a = Run(plan, topology, table);
  const SimulationResult b = Run(plan, topology, table);
  CHECK(a.seconds == b.seconds);
  for (size_t i = 0; i < plan.transfers.size(); ++i) {
    CHECK(a.transfers[i].end == b.transfers[i].end);
    CHECK(a.transfers[i].end >= a.transfers[i].start);
  }
}

TEST_CASE("plans that make no sense are refused", "[planner]") {
  const LinkTable table = SmallTable();
  const Topology topology = ClusterOf(table, 4);
  TransferPlan plan;
  AddTransfer(plan, topology, 0, 1, 10);
  AddTransfer(plan, topology, 1, 2, 10);
  SimulationOptions options;
  SECTION("a rank outside the cluster") {
    plan.transfers[1].destination = Rank(4);
  }
  SECTION("an id that is not the position") { plan.transfers[1].id = 0; }
  SECTION("reads after itself") { plan.transfers[1].reads_after = 1; }
  SECTION("negative bytes") { plan.transfers[0].bytes = -1; }
  SECTION("no window") { options.peer_window = 0; }
  CHECK_THAT(Simulate(plan, topology, table, options).status(),
             StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace sluice::coordinator::simulation
