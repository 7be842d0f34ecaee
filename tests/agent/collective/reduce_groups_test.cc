// Who is in a reduce group, and how its end reaches everybody.

#include "agent/collective/reduce_groups.h"

#include <catch2/catch.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/agent/collective/reduce_rig.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;

TEST_CASE("members are named by agents or by ranks", "[collective][reduce]") {
  ReduceRig rig(3);
  ReduceGroupSpec spec;
  spec.name = "g";
  spec.ranks = {Rank(2), Rank(0)};
  auto members = rig.JoinAll({2, 0}, spec);
  for (RigMember& member : members) CHECK_OK(member.told->AwaitJoined());
}

TEST_CASE("a list of members that cannot be is refused",
          "[collective][reduce]") {
  ReduceGroupSpec spec = ReduceRig::Spec({0, 1});
  CHECK_OK(spec.Validate());
  spec.ranks = {Rank(0)};
  CHECK_THAT(spec.Validate(), StatusIs(Code::kInvalidArgument));
  spec = ReduceRig::Spec({});
  CHECK_THAT(spec.Validate(), StatusIs(Code::kInvalidArgument));
  spec = ReduceRig::Spec({1, 0, 1});
  CHECK_THAT(spec.Validate(), StatusIs(Code::kInvalidArgument, "agent-1"));
  spec = ReduceGroupSpec();
  spec.ranks = {Rank(4), Rank(4)};
  CHECK_THAT(spec.Validate(), StatusIs(Code::kInvalidArgument, "4 twice"));
  spec = ReduceRig::Spec({0});
  spec.bucket_mib = 1025;
  CHECK_THAT(spec.Validate(), StatusIs(Code::kInvalidArgument, "1025"));
  spec.bucket_mib = -1;
  CHECK_THAT(spec.Validate(), StatusIs(Code::kInvalidArgument));
}

TEST_CASE("an agent outside of the group, or unknown, is named",
          "[collective][reduce]") {
  ReduceRig rig(3);
  RigMember outside = rig.Join(2, ReduceRig::Spec({0, 1}));
  CHECK_THAT(outside.told->AwaitJoined(),
             StatusIs(Code::kInvalidArgument, "agent-2"));
  ReduceGroupSpec spec = ReduceRig::Spec({0, 9});
  spec.deadline = absl::Milliseconds(1);
  RigMember unknown = rig.Join(0, spec);
  CHECK_THAT(unknown.told->AwaitJoined(), StatusIs(Code::kNotFound, "agent-9"));
}

TEST_CASE("an agent that is not there yet is waited for",
          "[collective][reduce]") {
  ReduceRig rig(2);
  rig.SetPeers({rig.peers()[0]});
  RigMember first = rig.Join(0, ReduceRig::Spec({0, 1}));
  RigMember second = rig.Join(1, ReduceRig::Spec({0, 1}));
  rig.SetPeers(rig.peers());
  CHECK_OK(first.told->AwaitJoined());
  CHECK_OK(second.told->AwaitJoined());
}

// Joins both of two agents, of which the first knows the second's former life.
std::pair<RigMember, RigMember> JoinFormerLife(ReduceRig& rig) {
  std::vector<Peer> before = rig.peers();
  before[1].incarnation = Incarnation(1);
  rig.agent(0).SetPeers(before);
  RigMember first = rig.Join(0, ReduceRig::Spec({0, 1}));
  return {std::move(first), rig.Join(1, ReduceRig::Spec({0, 1}))};
}

TEST_CASE("a member that was restarted before all have met is met anew",
          "[collective][reduce]") {
  ReduceRig rig(2);
  const auto [first, second] = JoinFormerLife(rig);
  rig.agent(0).SetPeers(rig.peers());
  CHECK_OK(first.told->AwaitJoined());
  CHECK_OK(second.told->AwaitJoined());
}

TEST_CASE("a group that ends with a member is met anew when all are reached",
          "[collective][reduce]") {
  ReduceRig rig(2);
  const auto [first, second] = JoinFormerLife(rig);
  rig.agent(0).EndWithout(rig.peers());
  // Until then nobody lives of whom a group could be made.
  ReduceGroupSpec spec = ReduceRig::Spec({0, 1}, "other");
  spec.deadline = absl::Milliseconds(1);
  RigMember other = rig.Join(0, spec);
  CHECK_THAT(other.told->AwaitJoined(), StatusIs(Code::kNotFound, "agent-1"));
  rig.agent(0).SetPeers(rig.peers());
  CHECK_OK(first.told->AwaitJoined());
  CHECK_OK(second.told->AwaitJoined());
}

// Of members whose connection broke while they met, one gave up for good, and
// the others waited for it until their deadline.
TEST_CASE("members who live meet again when a meeting breaks",
          "[collective][reduce]") {
  ReduceRig rig(3);
  rig.collectives().BreakNext();
  for (const RigMember& member :
       rig.JoinAll({0, 1, 2}, ReduceRig::Spec({0, 1, 2}))) {
    CHECK_OK(member.told->AwaitJoined());
  }
}

TEST_CASE("a member that is lost or lives anew ends the group on all",
          "[collective][reduce]") {
  ReduceRig rig(3);
  auto members = rig.JoinAll({0, 1, 2}, ReduceRig::Spec({0, 1, 2}));
  const auto request = ReduceRig::Request(3, DType::kF32, {4});
  for (int m = 0; m < 3; ++m) {
    REQUIRE_OK(members[m].told->AwaitJoined());
    members[m].lane->Reduce(1, request);  // waits in its bucket
    if (m != 1) members[m].lane->Flush(2);
  }
  std::vector<Peer> now = rig.peers();
  std::string expected;
  if (GENERATE(true, false)) {
    now.erase(now.begin() + 1);
    expected = "agent-1 (rank 1) is lost";
  } else {
    now[1].incarnation = Incarnation(999);
    expected = "agent-1 (rank 1) was restarted";
  }
  rig.SetPeers(now);
  for (int m = 0; m < 3; ++m) {
    CHECK_THAT(members[m].told->Await(1).status,
               StatusIs(Code::kUnavailable, expected));
    if (m != 1) {
      CHECK_THAT(members[m].told->Await(2).status,
                 StatusIs(Code::kUnavailable, expected));
    }
    members[m].told->AwaitGone();
  }
}

TEST_CASE("a worker that goes ends its groups on all, and those alone",
          "[collective][reduce]") {
  ReduceRig rig(2);
  auto members = rig.JoinAll({0, 1}, ReduceRig::Spec({0, 1}, "both"));
  RigMember alone = rig.Join(1, ReduceRig::Spec({1}, "alone"));
  const auto request = ReduceRig::Request(2, DType::kF32, {4});
  for (RigMember& member : members) {
    REQUIRE_OK(member.told->AwaitJoined());
    member.lane->Reduce(1, request);
  }
  members[1].lane->Flush(2);
  rig.agent(0).EndSession(0, absl::UnavailableError("worker w has gone"));
  for (RigMember& member : members) {
    CHECK_THAT(member.told->Await(1).status,
               StatusIs(Code::kUnavailable, "worker w"));
  }
  alone.lane->Flush(1);
  CHECK_OK(alone.told->Await(1).status);
}

TEST_CASE("a worker that goes while members are looked for waits for nobody",
          "[collective][reduce]") {
  ReduceRig rig(1);
  RigMember member = rig.Join(0, ReduceRig::Spec({0, 1}));
  rig.agent(0).EndSession(0, absl::UnavailableError("worker w has gone"));
  CHECK_FALSE(member.told->AwaitJoined().ok());
  member.told->AwaitGone();
}

TEST_CASE("a name is one worker's at a time, and free after it",
          "[collective][reduce]") {
  ReduceRig rig(1);
  RigMember first = rig.Join(0, ReduceRig::Spec({0}));
  REQUIRE_OK(first.told->AwaitJoined());
  ReduceGroupSpec spec = ReduceRig::Spec({0});
  spec.deadline = absl::Milliseconds(1);
  RigMember second = rig.Join(0, spec);
  CHECK_THAT(second.told->AwaitJoined(), StatusIs(Code::kAlreadyExists, "g"));
  first.lane->Leave(5);
  RigMember third = rig.Join(0, ReduceRig::Spec({0}));
  CHECK_OK(third.told->AwaitJoined());
}

TEST_CASE("an agent has only so many groups", "[collective][reduce]") {
  ReduceRig rig(1);
  std::vector<RigMember> members;
  for (size_t i = 0; i < ReduceGroups::kMaxGroups; ++i) {
    members.push_back(rig.Join(0, ReduceRig::Spec({0}, std::to_string(i))));
    REQUIRE_OK(members.back().told->AwaitJoined());
  }
  RigMember more = rig.Join(0, ReduceRig::Spec({0}, "more"));
  CHECK_THAT(more.told->AwaitJoined(),
             StatusIs(Code::kResourceExhausted, "256"));
  more.told->AwaitGone();
}

TEST_CASE("those who leave together have all their results",
          "[collective][reduce]") {
  ReduceRig rig(3);
  auto members = rig.JoinAll({0, 1, 2}, ReduceRig::Spec({0, 1, 2}));
  const auto request = ReduceRig::Request(3, DType::kF32, {4});
  for (RigMember& member : members) {
    member.lane->Reduce(1, request);
    member.lane->Flush(2);
    member.lane->Reduce(3, request);
    member.lane->Leave(4);
  }
  for (RigMember& member : members) {
    member.told->AwaitGone();
    CHECK_OK(member.told->Await(1).status);
    CHECK_OK(member.told->Await(2).status);
    CHECK_OK(member.told->Await(4).status);
    // Asked for and not flushed.
    CHECK_THAT(member.told->Await(3).status, StatusIs(Code::kCancelled));
  }
}

// What agent `i` reports of the newest group of a name.
ReduceGroupReport ReportOf(ReduceRig& rig, int i, const std::string& name) {
  ReduceGroupReport out;
  for (const ReduceGroupReport& report : rig.agent(i).Report()) {
    if (report.name == name) out = report;
  }
  return out;
}

TEST_CASE("what a group does is reported", "[collective][reduce]") {
  ReduceRig rig(2);
  CHECK(rig.agent(0).Report().empty());
  ReduceGroupSpec spec = ReduceRig::Spec({0, 1});
  spec.operation = ReduceOp::kAverage;
  RigMember first = rig.Join(0, spec);
  // Its agent's thread may not have begun yet.
  CHECK(ReportOf(rig, 0, "g").state == ReduceGroupState::kJoining);
  CHECK(ReportOf(rig, 0, "g").agents == spec.agents);
  CHECK(ReportOf(rig, 0, "g").average);
  RigMember second = rig.Join(1, spec);
  REQUIRE_OK(first.told->AwaitJoined());
  REQUIRE_OK(second.told->AwaitJoined());
  CHECK(ReportOf(rig, 0, "g").state == ReduceGroupState::kOpen);

  const auto request = ReduceRig::Request(2, DType::kF32, {4});
  for (RigMember* member : {&first, &second}) {
    member->lane->Reduce(1, request);
    member->lane->Reduce(2, request);
    member->lane->Flush(3);
  }
  REQUIRE_OK(first.told->Await(3).status);
  ReduceGroupReport report = ReportOf(rig, 0, "g");
  CHECK(report.requests_waiting == 0);
  CHECK(report.collectives_sent == 1);
  CHECK(report.collectives_done == 1);
  CHECK(report.bytes_reduced == 2 * 2 * 4 * 4);
  CHECK(report.bucket_bytes >= 2 * 2 * 4 * 4);
  // Two wait for the other member's.
  first.lane->Reduce(4, request);
  first.lane->Flush(5);
  first.lane->Lend(6, 2, first.memory);
  REQUIRE_OK(first.told->Await(6).status);  // comes after those were sent
  report = ReportOf(rig, 0, "g");
  CHECK(report.requests_waiting == 2);
  CHECK(report.collectives_sent == 2);
  CHECK(report.collectives_done == 1);
  CHECK(report.error.empty());
}

TEST_CASE("a join that waits for an agent says for which",
          "[collective][reduce]") {
  ReduceRig rig(2);
  rig.SetPeers({rig.peers()[0]});
  RigMember first = rig.Join(0, ReduceRig::Spec({0, 1}));
  // The lane's thread looks for members at some time from now on.
  while (ReportOf(rig, 0, "g").error.empty()) std::this_thread::yield();
  const ReduceGroupReport report = ReportOf(rig, 0, "g");
  CHECK(report.state == ReduceGroupState::kJoining);
  CHECK(report.error.find("agent-1") != std::string::npos);
  rig.SetPeers(rig.peers());
  RigMember second = rig.Join(1, ReduceRig::Spec({0, 1}));
  REQUIRE_OK(first.told->AwaitJoined());
  CHECK(ReportOf(rig, 0, "g").error.empty());
}

TEST_CASE("how a group failed is reported after its end, not that it was left",
          "[collective][reduce]") {
  ReduceRig rig(2);
  auto members = rig.JoinAll({0, 1}, ReduceRig::Spec({0, 1}, "left"));
  for (RigMember& member : members) member.lane->Leave(1);
  for (RigMember& member : members) member.told->AwaitGone();
  members = rig.JoinAll({0, 1}, ReduceRig::Spec({0, 1}, "failed"));
  for (RigMember& member : members) REQUIRE_OK(member.told->AwaitJoined());
  rig.SetPeers({rig.peers()[0]});
  for (RigMember& member : members) member.told->AwaitGone();
  const ReduceGroupReport report = ReportOf(rig, 0, "failed");
  CHECK(report.state == ReduceGroupState::kEnded);
  CHECK(report.bucket_bytes == 0);
  CHECK(report.error.find("agent-1 (rank 1) is lost") != std::string::npos);
  rig.agent(0).Shutdown();  // all have gone for good
  CHECK(ReportOf(rig, 0, "left").name.empty());
  CHECK(ReportOf(rig, 0, "failed").error == report.error);
}

TEST_CASE("a stop ends all groups, and joins after it",
          "[collective][reduce]") {
  ReduceRig rig(2);
  RigMember waiting = rig.Join(0, ReduceRig::Spec({0, 1}));
  rig.agent(0).Shutdown();
  CHECK_THAT(waiting.told->AwaitJoined(), StatusIs(Code::kUnavailable));
  CHECK_THAT(waiting.told->Await(ReduceRig::kLendId).status,
             StatusIs(Code::kUnavailable, "agent-0"));
}

}  // namespace
}  // namespace sluice::agent
