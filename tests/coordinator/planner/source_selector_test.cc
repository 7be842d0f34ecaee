#include "coordinator/planner/source_selector.h"

#include <catch2/catch.hpp>
#include <map>

#include "coordinator/planner/link_loads.h"
#include "coordinator/planner/lower_bound.h"
#include "tests/coordinator/planner/planner_builders.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::MakeTopology;
using ::sluice::testing::Ranks;

// Bytes out by source rank.
std::map<int32_t, int64_t> Out(const std::vector<Leg>& legs,
                               const std::vector<Demand>& demands) {
  std::map<int32_t, int64_t> out;
  for (const Leg& leg : legs) {
    out[leg.source.value()] += demands[static_cast<size_t>(leg.demand)].bytes;
  }
  return out;
}

TEST_CASE("loads are level over equal holders", "[planner]") {
  const Topology topology = MakeTopology({0, 0, 1, 1});
  RankSets sets(topology);
  const RankSets::Id holders = sets.Intern(Ranks({0, 1}));
  const RankSets::Id taker = sets.Intern(Ranks({2}));
  const std::vector<Demand> demands = {{7, holders, taker},
                                       {3, holders, taker},
                                       {5, holders, taker},
                                       {5, holders, taker}};
  const auto out = Out(RouteDemands(sets, demands), demands);
  CHECK(out.at(0) == 10);
  CHECK(out.at(1) == 10);
}

TEST_CASE("who has no choice is counted before who has", "[planner]") {
  const Topology topology = MakeTopology({0, 0, 0});
  RankSets sets(topology);
  const RankSets::Id taker = sets.Intern(Ranks({2}));
  // Rank 0 alone holds 4 bytes, so the 6 that both hold leave rank 1.
  const std::vector<Demand> demands = {{6, sets.Intern(Ranks({0, 1})), taker},
                                       {4, sets.Intern(Ranks({0})), taker}};
  const auto out = Out(RouteDemands(sets, demands), demands);
  CHECK(out.at(0) == 4);
  CHECK(out.at(1) == 6);
}

TEST_CASE("bytes cross to a node once and fan out inside it", "[planner]") {
  const Topology topology = MakeTopology({0, 1, 1, 1, 2});
  RankSets sets(topology);
  // Rank 4 takes so much that rank 0 may send to both nodes.
  const std::vector<Demand> demands = {
      {8, sets.Intern(Ranks({0})), sets.Intern(Ranks({1, 2, 3, 4}))},
      {99, sets.Intern(Ranks({1})), sets.Intern(Ranks({4}))}};
  const std::vector<Leg> legs = RouteDemands(sets, demands);
  REQUIRE(legs.size() == 5);
  CHECK(legs[0].source == Rank(0));
  CHECK(legs[0].parent == -1);
  for (int i = 1; i < 3; ++i) {
    const Leg& leg = legs[static_cast<size_t>(i)];
    CHECK(leg.round == 1);
    CHECK(leg.source == legs[0].destination);
    CHECK(leg.parent == 0);
  }
  CHECK(legs[3].source == Rank(0));
  CHECK(legs[3].destination == Rank(4));
}

TEST_CASE("a holder on the node serves its node", "[planner]") {
  const Topology topology = MakeTopology({0, 1, 1, 1});
  RankSets sets(topology);
  const std::vector<Demand> demands = {
      {8, sets.Intern(Ranks({0, 3})), sets.Intern(Ranks({1, 2}))},
      {99, sets.Intern(Ranks({1})), sets.Intern(Ranks({0}))}};
  for (const Leg& leg : RouteDemands(sets, demands)) {
    if (leg.demand != 0) continue;
    CHECK(leg.source == Rank(3));
    CHECK(leg.round == 0);
  }
}

TEST_CASE("who has got bytes passes them on where the holder is at its limit",
          "[planner]") {
  // One holder, six nodes: each piece leaves it once, and each rank passes on
  // about as much as it gets.
  const Topology topology = MakeTopology({0, 1, 2, 3, 4, 5, 6});
  RankSets sets(topology);
  const RankSets::Id holder = sets.Intern(Ranks({0}));
  const RankSets::Id all = sets.Intern(Ranks({1, 2, 3, 4, 5, 6}));
  const std::vector<Demand> demands(60, Demand{7, holder, all});
  const std::vector<Leg> legs = RouteDemands(sets, demands);
  CHECK(legs.size() == 360);
  CHECK(LowerBoundBytes(sets, demands) == 420);
  for (const auto& [rank, bytes] : Out(legs, demands)) CHECK(bytes <= 420);
  for (size_t i = 0; i < legs.size(); ++i) {
    const Leg& leg = legs[i];
    if (leg.parent < 0) continue;
    const Leg& parent = legs[static_cast<size_t>(leg.parent)];
    CHECK(leg.parent < static_cast<int32_t>(i));
    CHECK(parent.demand == leg.demand);
    CHECK(parent.destination == leg.source);
    CHECK(parent.round < leg.round);
  }
}

TEST_CASE("cards are held to their own bound, whatever ranks' links carry",
          "[planner]") {
  // Rank 4 gets far more inside its node than crosses anywhere.
  const Topology topology = MakeTopology({0, 1, 2, 3, 3});
  RankSets sets(topology);
  const RankSets::Id holder = sets.Intern(Ranks({0}));
  const RankSets::Id others = sets.Intern(Ranks({1, 2, 3}));
  std::vector<Demand> demands(60, Demand{7, holder, others});
  demands.push_back({9999, sets.Intern(Ranks({3})), sets.Intern(Ranks({4}))});
  CHECK(BoundLinks(sets, demands).rank == 9999);
  CHECK(BoundLinks(sets, demands).card == 420);
  std::map<int32_t, int64_t> crossing;
  for (const Leg& leg : RouteDemands(sets, demands)) {
    if (leg.destination != Rank(4)) crossing[leg.source.value()] += 7;
  }
  for (const auto& [rank, bytes] : crossing) CHECK(bytes <= 420);
}

TEST_CASE("pieces are small enough for the links that carry least",
          "[planner]") {
  Topology topology = MakeTopology({0, 0, 7, 7});  // 1 to 6: nobody there
  topology.card_of_rank = {0, 1, 0, 1};
  RankSets sets(topology);
  const RankSets::Id zero = sets.Intern(Ranks({0}));
  const RankSets::Id two = sets.Intern(Ranks({2}));
  const RankSets::Id three = sets.Intern(Ranks({3}));
  constexpr int64_t kMiB = int64_t{1} << 20;
  // A card brings 32 MiB; ranks take (64 + 960) / 2.
  CHECK(ChunkBytes(sets, {{64 * kMiB, zero, two}, {960 * kMiB, two, three}}) ==
        2 * kMiB);
  CHECK(ChunkBytes(sets, {{960 * kMiB, two, three}}) == 60 * kMiB);
  CHECK(ChunkBytes(sets, {}) >= kMiB);
}

TEST_CASE("a node's load is shared by its cards", "[planner]") {
  Topology topology = MakeTopology({0, 0, 1, 1});
  RankSets sets(topology);
  const RankSets::Id source = sets.Intern(Ranks({0, 1}));
  const std::vector<Demand> demands(
      8, Demand{5, source, sets.Intern(Ranks({2, 3}))});
  CHECK(LowerBoundBytes(sets, demands) == 40);
  topology.card_of_rank = {0, 1, 0, 1};
  // Both ranks need all 40, of which each card of the node brings half.
  CHECK(LowerBoundBytes(sets, demands) == 40);
  std::map<int32_t, int64_t> crossing;
  for (const Leg& leg : RouteDemands(sets, demands)) {
    if (leg.round == 0) crossing[leg.destination.value()] += 5;
  }
  CHECK(crossing.at(2) == 20);
  CHECK(crossing.at(3) == 20);
}

TEST_CASE("relaying is shared by a node's ranks", "[planner]") {
  const Topology topology = MakeTopology({0, 1, 1});
  RankSets sets(topology);
  const RankSets::Id holders = sets.Intern(Ranks({0}));
  const RankSets::Id takers = sets.Intern(Ranks({1, 2}));
  const std::vector<Demand> demands(4, Demand{5, holders, takers});
  const auto out = Out(RouteDemands(sets, demands), demands);
  CHECK(out.at(1) == 10);
  CHECK(out.at(2) == 10);
}

TEST_CASE("equal pieces of one thing go together", "[planner]") {
  const Topology topology = MakeTopology({0, 0, 1});
  RankSets sets(topology);
  const std::vector<Demand> demands(
      6, Demand{5, sets.Intern(Ranks({0, 1})), sets.Intern(Ranks({2})), 0});
  std::vector<int32_t> sources;
  for (const Leg& leg : RouteDemands(sets, demands)) {
    sources.push_back(leg.source.value());
  }
  CHECK(sources == std::vector<int32_t>{0, 0, 0, 1, 1, 1});
}

TEST_CASE("cutting is worth it where there is a choice", "[planner]") {
  const Topology topology = MakeTopology({0, 0, 1, 1});
  RankSets sets(topology);
  const RankSets::Id zero = sets.Intern(Ranks({0}));
  const RankSets::Id none = sets.Intern({});
  CHECK_FALSE(WorthCutting(sets, {8, zero, none}));
  CHECK_FALSE(WorthCutting(sets, {8, zero, sets.Intern(Ranks({2}))}));
  // Who gets it can pass it on.
  CHECK(WorthCutting(sets, {8, zero, sets.Intern(Ranks({1, 2}))}));
  CHECK(WorthCutting(sets, {8, zero, sets.Intern(Ranks({2, 3}))}));
  CHECK(WorthCutting(sets,
                     {8, sets.Intern(Ranks({0, 1})), sets.Intern(Ranks({2}))}));
}

TEST_CASE("the bound is the largest of what must enter and leave",
          "[planner]") {
  const Topology topology = MakeTopology({0, 0, 1, 1});
  RankSets sets(topology);
  const RankSets::Id zero = sets.Intern(Ranks({0}));
  const RankSets::Id both = sets.Intern(Ranks({0, 1}));
  const RankSets::Id two = sets.Intern(Ranks({2}));
  const RankSets::Id node1 = sets.Intern(Ranks({2, 3}));
  // Node 1 needs 10 and 6 once each: 16 enter it, though 32 enter its ranks.
  CHECK(LowerBoundBytes(sets, {{10, zero, node1}, {6, both, node1}}) == 16);
  // Inside a node: rank 0 alone holds 10 that somebody needs, and shares 6.
  const RankSets::Id one = sets.Intern(Ranks({1}));
  const RankSets::Id three = sets.Intern(Ranks({3}));
  CHECK(LowerBoundBytes(sets, {{10, zero, one}, {6, two, three}}) == 10);
  // Two holders cannot send 9 bytes with less than 5 each; one rank gets all 9.
  CHECK(LowerBoundBytes(sets, {{9, both, two}}) == 9);
  CHECK(LowerBoundBytes(sets, {}) == 0);
}

}  // namespace
}  // namespace sluice::coordinator
