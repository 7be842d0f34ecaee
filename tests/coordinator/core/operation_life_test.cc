#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"
#include "tests/coordinator/core/core_world.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::StatusIs;

constexpr const char* kAll[] = {"a0", "a1", "a2", "a3"};

template <typename Body>
size_t Count(CoreWorld& world, const std::string& agent) {
  return world.Agent(agent).Received<Body>().size();
}

TEST_CASE("a retry attaches to what runs, or gets what came out", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  world.hold_plans = true;
  const CallId first = StartSync(world, "r1");
  const CallId retry = StartSync(world, "r1");
  SyncRequest other = SmallSync("r1");
  other.options.fingerprint = 7;
  CHECK_THAT(world.StatusOf(world.Call(other)),
             StatusIs(absl::StatusCode::kInvalidArgument, "r1"));
  world.hold_plans = false;
  world.ReleasePlans();
  CHECK_OK(world.StatusOf(first));
  CHECK_OK(world.StatusOf(retry));
  CHECK(world.UpdatesOf(first).back().operation ==
        world.UpdatesOf(retry).back().operation);
  CHECK(Count<ExecuteCommand>(world, "a2") == 1);

  const auto outcome_again = [&] {
    const CallId late = StartSync(world, "r1");
    REQUIRE_OK(world.StatusOf(late));
    const OperationUpdate update = world.UpdatesOf(late).back();
    CHECK(update.phase == OperationPhase::kDone);
    CHECK(update.result->version == Version(1));
    CHECK(update.operation == world.UpdatesOf(first).back().operation);
  };
  outcome_again();
  world.Restart();
  outcome_again();  // even while it recovers
  CHECK(Count<ExecuteCommand>(world, "a2") == 1);
  // For an hour; then the id means nothing any more.
  world.Advance(absl::Seconds(2));
  world.Stall(absl::Minutes(61));
  world.Do(TickEvent{});
  CHECK_FALSE(world.HasStored("outcome/"));
  const CallId anew = StartSync(world, "r1");
  CHECK_OK(world.StatusOf(anew));
  CHECK(world.UpdatesOf(anew).back().operation !=
        world.UpdatesOf(first).back().operation);
}

TEST_CASE("a failed operation's retry gets the failure", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  world.Agent("a2").vote_outcome = absl::DataLossError("digest of w");
  CHECK_THAT(world.StatusOf(StartSync(world, "r1")),
             StatusIs(absl::StatusCode::kDataLoss, "digest of w"));
  world.Agent("a2").vote_outcome = absl::OkStatus();
  CHECK_THAT(world.StatusOf(StartSync(world, "r1")),
             StatusIs(absl::StatusCode::kDataLoss, "digest of w"));
  CHECK_OK(world.StatusOf(StartSync(world, "r2")));
}

TEST_CASE("a lost caller cancels or detaches, as it said", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  for (const char* name : kAll) world.Agent(name).votes = false;
  SyncRequest request = SmallSync("r1");
  SECTION("cancel") {
    const CallId call = world.Call(request);
    const CallId attached = world.Call(request);
    world.Do(CallerGoneEvent{call});
    CHECK(Count<AbortCommand>(world, "a2") == 0);  // somebody still waits
    world.Do(CallerGoneEvent{attached});
    CHECK(Count<AbortCommand>(world, "a2") == 1);
    CHECK(world.Idle());
    CHECK(world.Status().operations[0].update.phase == OperationPhase::kFailed);
  }
  SECTION("detach") {
    request.options.on_caller_loss = CallerLossPolicy::kDetach;
    const CallId call = world.Call(request);
    const OperationId id = world.UpdatesOf(call).back().operation;
    world.Do(CallerGoneEvent{call});
    CHECK(Count<AbortCommand>(world, "a2") == 0);
    for (const char* name : kAll) {
      world.Agent(name).undecided.insert(id);
      world.Tell(world.Agent(name), world.Agent(name).Vote(id));
    }
    CHECK(world.Status().operations[0].update.phase == OperationPhase::kDone);
  }
}

TEST_CASE("cancelling ends an operation that is not decided", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  for (const char* name : kAll) world.Agent(name).votes = false;
  const CallId sync = StartSync(world);
  const OperationId id = world.UpdatesOf(sync).back().operation;
  CHECK_OK(world.StatusOf(world.Call(CancelRequest{{}, id})));
  CHECK_THAT(world.StatusOf(sync), StatusIs(absl::StatusCode::kCancelled));
  for (const char* name : kAll) {
    CHECK(Count<AbortCommand>(world, name) == 1);
    CHECK(world.Agent(name).operations.empty());
  }
  CHECK_THAT(world.StatusOf(world.Call(CancelRequest{{}, id})),
             StatusIs(absl::StatusCode::kNotFound));
  CHECK_THAT(world.StatusOf(world.Call(CancelRequest{{}, OperationId(99999)})),
             StatusIs(absl::StatusCode::kNotFound, "99999"));
}

TEST_CASE("a cancelled operation is cancelled, whoever broke off", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  for (const char* name : kAll) world.Agent(name).votes = false;
  const CallId sync = StartSync(world);
  world.KillAgent("a3");
  const OperationId id = world.UpdatesOf(sync).back().operation;
  CHECK_OK(world.StatusOf(world.Call(CancelRequest{{}, id})));
  CHECK_THAT(world.StatusOf(sync), StatusIs(absl::StatusCode::kCancelled));
}

TEST_CASE("a plan that is refused ends the sync and moves nothing", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  world.plan_error = absl::InvalidArgumentError("tensor \"w\": nobody has it");
  CHECK_THAT(world.StatusOf(StartSync(world)),
             StatusIs(absl::StatusCode::kInvalidArgument, "\"w\""));
  CHECK(Count<PrepareCommand>(world, "a2") == 0);
}

TEST_CASE("progress is told, with who is waited for", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  world.Agent("a3").votes = false;
  const CallId sync = StartSync(world);
  const OperationId id = world.UpdatesOf(sync).back().operation;
  world.Tell(world.Agent("a3"), ProgressEvent{id, 120});
  world.Advance(absl::Milliseconds(100));
  const OperationUpdate update = world.UpdatesOf(sync).back();
  CHECK(update.phase == OperationPhase::kExecuting);
  CHECK(update.bytes_total == 320);
  CHECK(update.bytes_done == 120 + 300);  // 100 in each of three votes
  CHECK(update.waiting_for == std::vector<std::string>{"a3"});
  const StatusSnapshot status = world.Status();
  REQUIRE(!status.operations.empty());
  CHECK(status.operations[0].update.operation == id);
  CHECK(status.operations[0].description == "policy: trainer -> rollout");
}

TEST_CASE("no answer to Prepare ends a sync by name", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  world.Agent("a3").Mute<PrepareCommand>();
  const CallId sync = StartSync(world);
  world.Advance(absl::Seconds(19));
  CHECK(world.ReplyTo(sync) == nullptr);  // 10 s for pins, 10 s to answer
  world.Advance(absl::Seconds(2));
  CHECK_THAT(world.StatusOf(sync),
             StatusIs(absl::StatusCode::kDeadlineExceeded, "a3"));
  CHECK(world.Agent("a2").Published("rollout") == Version(0));
}

TEST_CASE("no progress ends a sync by name", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  world.Agent("a3").votes = false;
  const CallId sync = StartSync(world);
  const OperationId id = world.UpdatesOf(sync).back().operation;
  for (int64_t i = 1; i <= 20; ++i) {
    world.Advance(absl::Seconds(4));
    world.Tell(world.Agent("a3"), ProgressEvent{id, i});
  }
  CHECK(world.ReplyTo(sync) == nullptr);
  world.Advance(absl::Seconds(17));
  CHECK_THAT(world.StatusOf(sync),
             StatusIs(absl::StatusCode::kDeadlineExceeded, "a3"));
}

TEST_CASE("the whole has a deadline, also in the queue", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  for (const char* name : kAll) world.Agent(name).votes = false;
  const CallId first = StartSync(world);
  SyncRequest request = SmallSync();
  request.options.deadline = absl::Seconds(3);
  const CallId queued = world.Call(request);
  world.Advance(absl::Seconds(4));
  CHECK_THAT(world.StatusOf(queued),
             StatusIs(absl::StatusCode::kDeadlineExceeded, "queued"));
  CHECK(world.ReplyTo(first) == nullptr);
}

TEST_CASE("a sync with nothing new still commits on all members", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  REQUIRE_OK(world.StatusOf(StartSync(world)));
  REQUIRE_OK(world.StatusOf(StartSync(world)));
  CHECK(world.Agent("a2").Published("rollout") == Version(1));
}

TEST_CASE("a commit that one agent does not confirm is told in time",
          "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  FakeAgent& late = world.Agent("a3");
  late.Mute<CommitCommand>();
  const CallId sync = StartSync(world);
  world.Advance(absl::Seconds(9));
  CHECK(world.ReplyTo(sync) == nullptr);
  world.Advance(absl::Seconds(2));
  CHECK_OK(world.StatusOf(sync));
  CHECK(world.UpdatesOf(sync).back().waiting_for ==
        std::vector<std::string>{"a3"});
  CHECK(world.HasStored("decision/"));
  // Its stream breaks and comes back: the same commit reaches it.
  late.Unmute<CommitCommand>();
  world.Disconnect("a3");
  world.Connect("a3");
  CHECK(late.Published("rollout") == Version(1));
  CHECK_FALSE(world.HasStored("decision/"));
}

TEST_CASE("a vote can be taken back until it is decided", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  const absl::Status gone = absl::AbortedError("its worker has gone");
  SECTION("before the others have voted") {
    world.Agent("a3").votes = false;
    const CallId sync = StartSync(world);
    const OperationId id = world.UpdatesOf(sync).back().operation;
    world.Tell(world.Agent("a0"), world.Agent("a0").Vote(id, gone));
    CHECK_THAT(world.StatusOf(sync),
               StatusIs(absl::StatusCode::kAborted, "a0"));
    CHECK(world.Agent("a2").Published("rollout") == Version());
    CHECK(world.Idle());
  }
  SECTION("while the decision is written it is too late") {
    world.hold_writes = true;
    const CallId sync = StartSync(world);
    const OperationId id = world.UpdatesOf(sync).back().operation;
    REQUIRE(world.num_held_writes() == 1);
    world.Tell(world.Agent("a0"), world.Agent("a0").Vote(id, gone));
    world.hold_writes = false;
    world.ReleaseWrite();
    CHECK_OK(world.StatusOf(sync));
    CHECK(world.Agent("a2").Published("rollout") == Version(1));
  }
}

}  // namespace
}  // namespace sluice::coordinator
