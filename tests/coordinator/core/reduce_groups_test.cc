// Reduce groups in the coordinator's status: put together from beats.

#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/coordinator/core/core_world.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using Names = std::vector<std::string>;

ReduceGroupReport Report(ReduceGroupState state, int64_t sent = 0) {
  ReduceGroupReport report;
  report.name = "g";
  report.agents = {"a2", "a0", "a1"};
  report.state = state;
  report.collectives_sent = sent;
  return report;
}

struct GroupWorld {
  GroupWorld() {
    for (const char* name : {"a0", "a1", "a2"}) world.Join(name);
  }
  void Beat(const std::string& agent, std::vector<ReduceGroupReport> reports) {
    HeartbeatEvent beat;
    beat.name = agent;
    beat.incarnation = world.Agent(agent).incarnation;
    beat.reduce_groups = std::move(reports);
    REQUIRE_OK(world.StatusOf(world.Call(beat)));
  }
  std::vector<ReduceGroupStatus> Groups() {
    return world.Status().reduce_groups;
  }

  CoreWorld world;
};

TEST_CASE("a group is put together of what its members' agents report",
          "[core][reduce]") {
  GroupWorld rig;
  CHECK(rig.Groups().empty());
  for (const std::string name : {"a0", "a1", "a2"}) {
    ReduceGroupReport report = Report(ReduceGroupState::kOpen, 3);
    report.average = true;
    report.requests_waiting = 1;
    report.collectives_done = 2;
    report.bytes_reduced = 40;
    report.bucket_bytes = name == "a1" ? 60 : 50;
    rig.Beat(name, {report});
  }
  const auto groups = rig.Groups();
  REQUIRE(groups.size() == 1);
  CHECK(groups[0].name == "g");
  CHECK(groups[0].average);
  CHECK(groups[0].waits_for.empty());
  REQUIRE(groups[0].members.size() == 3);
  const ReduceGroupMember& last = groups[0].members[2];
  CHECK(last.agent == "a1");
  CHECK(last.state == ReduceGroupState::kOpen);
  CHECK(last.requests_waiting == 1);
  CHECK(last.collectives_sent == 3);
  CHECK(last.collectives_done == 2);
  CHECK(last.bytes_reduced == 40);
  CHECK(last.bucket_bytes == 60);
  CHECK(groups[0].members[0].agent == "a2");
  CHECK(groups[0].members[0].bucket_bytes == 50);
}

TEST_CASE("who has not joined is named, then who is behind", "[core][reduce]") {
  GroupWorld rig;
  rig.Beat("a0", {Report(ReduceGroupState::kJoining)});
  CHECK(rig.Groups()[0].waits_for == Names{"a2", "a1"});
  rig.Beat("a1", {Report(ReduceGroupState::kJoining)});
  CHECK(rig.Groups()[0].waits_for == Names{"a2"});
  CHECK(rig.Groups()[0].members[0].state == ReduceGroupState::kUnspecified);
  for (const char* name : {"a0", "a1", "a2"}) {
    rig.Beat(name, {Report(ReduceGroupState::kOpen, 5)});
  }
  CHECK(rig.Groups()[0].waits_for.empty());
  rig.Beat("a0", {Report(ReduceGroupState::kOpen, 6)});
  CHECK(rig.Groups()[0].waits_for == Names{"a2", "a1"});
}

TEST_CASE("a group that ended keeps its error until members join anew",
          "[core][reduce]") {
  GroupWorld rig;
  ReduceGroupReport ended = Report(ReduceGroupState::kEnded, 9);
  ended.error = "a2 is lost";
  for (const char* name : {"a0", "a1"}) rig.Beat(name, {ended});
  CHECK(rig.Groups()[0].waits_for.empty());
  CHECK(rig.Groups()[0].members[1].error == "a2 is lost");
  rig.Beat("a0", {ended, Report(ReduceGroupState::kJoining)});
  CHECK(rig.Groups()[0].waits_for == Names{"a2", "a1"});
  CHECK(rig.Groups()[0].members[1].state == ReduceGroupState::kJoining);
  CHECK(rig.Groups()[0].members[1].error.empty());
}

TEST_CASE("members by rank are named, and lists that differ are groups",
          "[core][reduce]") {
  GroupWorld rig;
  ReduceGroupReport ranks = Report(ReduceGroupState::kJoining);
  ranks.agents.clear();
  ranks.ranks = {Rank(1), Rank(0), Rank(7)};
  rig.Beat("a0", {ranks});
  ReduceGroupReport names = Report(ReduceGroupState::kJoining);
  names.agents = {"a1", "a0", "rank 7"};
  rig.Beat("a1", {names});
  auto groups = rig.Groups();
  REQUIRE(groups.size() == 1);  // the same list, given in two ways
  CHECK(groups[0].waits_for == Names{"rank 7"});
  names.agents = {"a1", "a0"};
  rig.Beat("a1", {names});
  groups = rig.Groups();
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].waits_for == Names{"a0"});
  CHECK(groups[1].waits_for == Names{"a1", "rank 7"});
}

TEST_CASE("an agent that is lost or says nothing more is in no group",
          "[core][reduce]") {
  GroupWorld rig;
  rig.Beat("a0", {Report(ReduceGroupState::kOpen)});
  rig.Beat("a1", {Report(ReduceGroupState::kOpen)});
  rig.world.RestartAgent("a0");
  CHECK(rig.Groups()[0].waits_for == Names{"a2", "a0"});
  rig.Beat("a1", {});
  CHECK(rig.Groups().empty());
}

}  // namespace
}  // namespace sluice::coordinator
