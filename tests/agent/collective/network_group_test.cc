// Groups whose members are on several nodes, over UCX.

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/collective/host_group.h"
#include "common/clock.h"
#include "tests/agent/collective/all_kinds.h"
#include "tests/agent/collective/group_rig.h"
#include "tests/fakes/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;

TEST_CASE("all kinds and types between nodes, in many splits",
          "[host_group][ucx]") {
  const SystemClock clock;
  const std::vector<int> nodes = GENERATE(
      std::vector<int>{0, 1}, std::vector<int>{0, 1, 2},
      std::vector<int>{0, 0, 1}, std::vector<int>{0, 1, 0, 1},
      std::vector<int>{0, 0, 0, 1, 1}, std::vector<int>{2, 1, 1, 0, 0, 2},
      std::vector<int>{0, 0, 0, 0, 1, 1, 1},
      std::vector<int>{0, 1, 2, 3, 0, 1, 2, 3});
  CAPTURE(absl::StrJoin(nodes, ","));
  GroupRig rig(nodes, nodes.size(), clock, {});
  rig.MakeAll();
  RunAllKinds(rig, 3000);
}

TEST_CASE("pieces of many messages between nodes", "[host_group][ucx]") {
  const SystemClock clock;
  GroupRig rig({0, 1, 1, 2}, 31, clock, {});
  rig.MakeAll();
  for (int i = 0; i < 3; ++i) {
    RunOneOfEachKind(rig, DType::kF32, 1'800'000);
  }
}

TEST_CASE("what differs between nodes is named on all members",
          "[host_group][ucx]") {
  const SystemClock clock;
  GroupRig rig({0, 0, 1, 2}, 32, clock, {});
  for (int round = 0; round < 5; ++round) {
    rig.MakeAll();
    RigCall call = rig.MakeCall(CollectiveKind::kAllGather, DType::kF32,
                                ReduceOp::kNone, 100);
    call.calls[3].fingerprint = 78;
    for (const absl::Status& status : rig.Run(call)) {
      REQUIRE_THAT(status,
                   StatusIs(absl::StatusCode::kFailedPrecondition, "rank 13"));
      REQUIRE_THAT(status,
                   StatusIs(absl::StatusCode::kFailedPrecondition, "rank 10"));
    }
  }
}

TEST_CASE("a member on another node that does not come is named",
          "[host_group][ucx]") {
  testing::FakeClock clock;
  HostGroupOptions options;
  options.progress_timeout = absl::Seconds(5);
  GroupRig rig({0, 1, 1}, 33, clock, options);
  rig.MakeAll();
  const RigCall first = rig.MakeCall(CollectiveKind::kAllGather, DType::kF32,
                                     ReduceOp::kNone, 100);
  for (const absl::Status& status : rig.Run(first)) REQUIRE_OK(status);
  const RigCall call =
      rig.MakeCall(CollectiveKind::kGather, DType::kF32, ReduceOp::kNone, 100);
  RigOutcome outcome;
  rig.Start(call, {0, 2}, outcome);
  REQUIRE(rig.WaitAdvancing(clock, absl::Seconds(2), {0, 2}, outcome));
  for (const int m : {0, 2}) {
    CHECK_THAT(*outcome.statuses[static_cast<size_t>(m)],
               StatusIs(absl::StatusCode::kDeadlineExceeded, "a1"));
  }
  // The late one learns it.
  rig.Start(call, {1}, outcome);
  REQUIRE(rig.Wait({1}, outcome));
  CHECK_THAT(*outcome.statuses[1],
             StatusIs(absl::StatusCode::kDeadlineExceeded, "a1"));
}

TEST_CASE("a member that leaves ends no call that all have finished",
          "[host_group][ucx]") {
  const SystemClock clock;
  GroupRig rig({0, 0, 1, 1}, 34, clock, {});
  for (int round = 0; round < 30; ++round) {
    rig.MakeAll();
    const RigCall call = rig.MakeCall(CollectiveKind::kBroadcast, DType::kU8,
                                      ReduceOp::kNone, 5000);
    RigOutcome outcome;
    rig.Start(call, rig.everybody(), outcome);
    // Each as soon as it has its outcome.
    for (const int m : rig.everybody()) {
      REQUIRE(rig.Wait({m}, outcome));
      rig.Destroy(m);
    }
    for (const auto& status : outcome.statuses) REQUIRE_OK(*status);
    REQUIRE(call.Check() == "");
  }
}

// That an agent of another node goes away is group_process_test's: UCX 1.13
// ends a process in which one transport closes sockets while others open some
// (its queue of missed events names them by descriptor number, which the
// other's socket may have by then). Agents have one transport each.

TEST_CASE("many groups of the same agents run at once", "[host_group][ucx]") {
  const SystemClock clock;
  GroupRig one({0, 0, 1}, 36, clock, {});
  GroupRig other({0, 1, 1}, 37, clock, {});
  one.MakeAll();
  other.MakeAll();
  for (int i = 0; i < 20; ++i) {
    const RigCall a = one.MakeCall(CollectiveKind::kReduceScatter, DType::kF32,
                                   ReduceOp::kSum, 20000);
    const RigCall b = other.MakeCall(CollectiveKind::kAllGather, DType::kF32,
                                     ReduceOp::kNone, 20000);
    RigOutcome of_a, of_b;
    one.Start(a, {0, 1, 2}, of_a);
    other.Start(b, {2, 1, 0}, of_b);
    REQUIRE(one.Wait({0, 1, 2}, of_a));
    REQUIRE(other.Wait({0, 1, 2}, of_b));
    REQUIRE(a.Check() == "");
    REQUIRE(b.Check() == "");
  }
}

}  // namespace
}  // namespace sluice::agent
