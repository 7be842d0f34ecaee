#include "agent/collective/host_group.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "tests/agent/collective/all_kinds.h"
#include "tests/agent/collective/group_rig.h"
#include "tests/fakes/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;

TEST_CASE("all kinds and types inside a node, worlds of 1 to 8",
          "[host_group]") {
  const SystemClock clock;
  for (int world = 1; world <= 8; ++world) {
    CAPTURE(world);
    GroupRig rig(std::vector<int>(static_cast<size_t>(world), 0),
                 static_cast<uint64_t>(world), clock, {});
    rig.MakeAll();
    RunAllKinds(rig, 3000);
  }
}

TEST_CASE("large pieces inside a node", "[host_group]") {
  const SystemClock clock;
  GroupRig rig({0, 0, 0}, 17, clock, {});
  rig.MakeAll();
  RunAllKinds(rig, 700'000);
}

// What one member does otherwise than the others.
struct Difference {
  const char* name;
  void (*make)(CollectiveCall& call);
};

void Shrink(std::vector<CollectiveRange>& ranges) {
  for (CollectiveRange& range : ranges) {
    if (range.elements > 0) {
      --range.elements;
      return;
    }
  }
}

TEST_CASE("each difference between members is named on all of them",
          "[host_group]") {
  const Difference difference = GENERATE(
      Difference{"kind",
                 [](CollectiveCall& call) {
                   call.kind = CollectiveKind::kAllGather;
                   call.reduce = ReduceOp::kNone;
                   call.outputs.resize(4, call.outputs[0]);
                   call.inputs.resize(1);
                 }},
      Difference{"type", [](CollectiveCall& c) { c.dtype = DType::kI32; }},
      Difference{"average",
                 [](CollectiveCall& c) { c.reduce = ReduceOp::kAverage; }},
      Difference{"fingerprint", [](CollectiveCall& c) { c.fingerprint = 1; }},
      Difference{"size", [](CollectiveCall& c) { Shrink(c.inputs); }},
      Difference{"size", [](CollectiveCall& c) { Shrink(c.outputs); }});
  const SystemClock clock;
  GroupRig rig({0, 0, 0, 0}, 18, clock, {});
  rig.MakeAll();
  const RigCall good = rig.MakeCall(CollectiveKind::kReduceScatter, DType::kF32,
                                    ReduceOp::kSum, 100);
  for (const absl::Status& status : rig.Run(good)) REQUIRE_OK(status);
  RigCall call;
  do {  // all pieces have elements
    call = rig.MakeCall(CollectiveKind::kReduceScatter, DType::kF32,
                        ReduceOp::kSum, 100);
  } while (call.expected.size() < 4);
  call.calls[2].description = "op of a2";
  difference.make(call.calls[2]);
  const std::vector<absl::Status> statuses = rig.Run(call);
  for (const absl::Status& status : statuses) {
    for (const char* words :
         {"\"rig\", call 2", "(rank 12)", "op of a2", difference.name}) {
      CHECK_THAT(status,
                 StatusIs(absl::StatusCode::kFailedPrecondition, words));
    }
    CHECK(status == statuses[0]);
  }
  // What comes after ends alike.
  for (const absl::Status& status : rig.Run(good)) {
    CHECK_THAT(status,
               StatusIs(absl::StatusCode::kFailedPrecondition, "call 2"));
  }
}

TEST_CASE("another root is named on all members", "[host_group]") {
  const SystemClock clock;
  GroupRig rig({0, 0, 0}, 19, clock, {});
  rig.MakeAll();
  RigCall call = rig.MakeCall(CollectiveKind::kBroadcast, DType::kF32,
                              ReduceOp::kNone, 100);
  const int root = call.calls[0].root;
  const int other = (root + 1) % 3;
  const auto at = static_cast<size_t>(other);
  call.calls[at].root = other;
  call.calls[at].inputs = call.calls[at].outputs;
  for (const absl::Status& status : rig.Run(call)) {
    CHECK_THAT(status,
               StatusIs(absl::StatusCode::kFailedPrecondition, "the root"));
    CHECK_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition,
                                absl::StrCat("rank ", 10 + other)));
  }
}

TEST_CASE("a call that one member may not make ends the group on all",
          "[host_group]") {
  const SystemClock clock;
  GroupRig rig({0, 0, 0}, 20, clock, {});
  rig.MakeAll();
  RigCall call = rig.MakeCall(CollectiveKind::kAllToAll, DType::kF32,
                              ReduceOp::kNone, 100);
  call.calls[1].inputs.pop_back();
  for (const absl::Status& status : rig.Run(call)) {
    CHECK_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, "a1"));
  }
}

TEST_CASE("a group that failed is made anew at once", "[host_group]") {
  const SystemClock clock;
  GroupRig rig({0, 0, 0, 0}, 21, clock, {});
  for (int round = 0; round < 20; ++round) {
    // One after the other, so that new lives meet old ones.
    rig.MakeAll();
    const RigCall good = rig.MakeCall(CollectiveKind::kAllGather, DType::kF32,
                                      ReduceOp::kNone, 100);
    for (const absl::Status& status : rig.Run(good)) REQUIRE_OK(status);
    RigCall bad = good;
    bad.calls[3].fingerprint = 1;
    for (const absl::Status& status : rig.Run(bad)) {
      REQUIRE_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition));
    }
  }
}

TEST_CASE("a member that does not come is named", "[host_group]") {
  testing::FakeClock clock;
  HostGroupOptions options;
  options.progress_timeout = absl::Seconds(5);
  options.meet_timeout = absl::Seconds(20);
  GroupRig rig({0, 0, 0}, 22, clock, options);
  const RigCall call =
      rig.MakeCall(CollectiveKind::kGather, DType::kF32, ReduceOp::kNone, 100);
  SECTION("to make the group") {
    rig.Make(0);
    rig.Make(2);
    RigOutcome outcome;
    rig.Start(call, {0, 2}, outcome);
    REQUIRE(rig.WaitAdvancing(clock, absl::Seconds(5), {0, 2}, outcome));
    for (const size_t m : {0, 2}) {
      CHECK_THAT(*outcome.statuses[m],
                 StatusIs(absl::StatusCode::kDeadlineExceeded, "a1"));
    }
  }
  SECTION("to a call") {
    rig.MakeAll();
    for (const absl::Status& status : rig.Run(call)) REQUIRE_OK(status);
    RigOutcome outcome;
    rig.Start(call, {0, 2}, outcome);
    REQUIRE(rig.WaitAdvancing(clock, absl::Seconds(2), {0, 2}, outcome));
    for (const size_t m : {0, 2}) {
      CHECK_THAT(*outcome.statuses[m],
                 StatusIs(absl::StatusCode::kDeadlineExceeded,
                          "agent \"a1\" (rank 11)"));
    }
  }
}

TEST_CASE("an agent that is gone ends the call on the others, named",
          "[host_group]") {
  const SystemClock clock;
  GroupRig rig({0, 0, 0}, 23, clock, {});
  rig.MakeAll();
  const RigCall call = rig.MakeCall(CollectiveKind::kAllGather, DType::kF32,
                                    ReduceOp::kNone, 100);
  for (const absl::Status& status : rig.Run(call)) REQUIRE_OK(status);
  RigOutcome outcome;
  rig.Start(call, {0, 2}, outcome);
  rig.CutOff(1);
  REQUIRE(rig.Wait({0, 2}, outcome));
  for (const size_t m : {0, 2}) {
    CHECK_THAT(*outcome.statuses[m],
               StatusIs(absl::StatusCode::kUnavailable, "a1"));
  }
}

TEST_CASE("calls end in their order, also those of callbacks", "[host_group]") {
  const SystemClock clock;
  GroupRig rig({0, 0}, 24, clock, {});
  rig.MakeAll();
  std::vector<RigCall> calls;
  for (int i = 0; i < 10; ++i) {
    calls.push_back(rig.MakeCall(CollectiveKind::kAllToAll, DType::kF32,
                                 ReduceOp::kNone, 100));
  }
  std::vector<RigOutcome> outcomes(10);
  for (int i = 0; i < 10; ++i) {
    rig.Start(calls[static_cast<size_t>(i)], {0, 1},
              outcomes[static_cast<size_t>(i)]);
  }
  // A callback asks for more.
  const RigCall more = rig.MakeCall(CollectiveKind::kAllGather, DType::kF32,
                                    ReduceOp::kNone, 100);
  RigOutcome last;
  for (int m = 0; m < 2; ++m) {
    rig.group(m).Run(
        calls[0].calls[static_cast<size_t>(m)],
        [&rig, &more, &last, m](absl::Status) { rig.Start(more, {m}, last); });
  }
  REQUIRE(rig.Wait({0, 1}, outcomes[9]));
  for (RigOutcome& outcome : outcomes) {
    for (const auto& status : outcome.statuses) {
      REQUIRE(status.has_value());
      CHECK_OK(*status);
    }
  }
  REQUIRE(rig.Wait({0, 1}, last));
  CHECK(more.Check() == "");
}

}  // namespace
}  // namespace sluice::agent
