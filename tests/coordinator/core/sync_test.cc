#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"
#include "tests/coordinator/core/core_world.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::StatusIs;

constexpr const char* kAll[] = {"a0", "a1", "a2", "a3"};

std::vector<OperationPhase> PhasesOf(CoreWorld& world, CallId call) {
  std::vector<OperationPhase> phases;
  for (const OperationUpdate& update : world.UpdatesOf(call)) {
    if (phases.empty() || phases.back() != update.phase) {
      phases.push_back(update.phase);
    }
  }
  return phases;
}

template <typename Body>
size_t Count(CoreWorld& world, const std::string& agent) {
  return world.Agent(agent).Received<Body>().size();
}

TEST_CASE("a load makes a new version of all members", "[core]") {
  CoreWorld world;
  for (const char* name : kAll) world.Join(name);
  DeclareSmall(world);
  const CallId load = StartLoad(world);
  CHECK_OK(world.StatusOf(load));
  const OperationResult result = *world.UpdatesOf(load).back().result;
  CHECK(result.version == Version(1));
  CHECK(result.bytes[0] == 200);  // 100 from each of two votes
  CHECK(world.Agent("a0").Published("trainer") == Version(1));
  CHECK(world.Agent("a1").Published("trainer") == Version(1));
  CHECK(world.Agent("a0").operations.empty());  // released
  CHECK(world.HasStored("version/policy/1"));
  CHECK_FALSE(world.HasStored("decision/"));  // all have confirmed
  CHECK_OK(world.StatusOf(StartLoad(world)));
  CHECK(world.Agent("a0").Published("trainer") == Version(2));
}

TEST_CASE("bad loads are refused", "[core]") {
  CoreWorld world;
  for (const char* name : kAll) world.Join(name);
  DeclareSmall(world, Storage::kLent);
  LoadRequest load;
  load.model = "policy";
  load.placement = "trainer";
  load.directory = "/checkpoints/1";
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
  std::string names;
  SECTION("an unknown model") {
    load.model = "critic";
    code = absl::StatusCode::kNotFound;
    names = "critic";
  }
  SECTION("an unknown placement") {
    load.placement = "reference";
    code = absl::StatusCode::kNotFound;
    names = "reference";
  }
  SECTION("a relative directory") { load.directory = "checkpoints"; }
  SECTION("memory that is not lent") {
    code = absl::StatusCode::kFailedPrecondition;
    names = "a0";
  }
  SECTION("a lost agent") {
    world.KillAgent("a1");
    world.Advance(absl::Seconds(11));
    code = absl::StatusCode::kFailedPrecondition;
    names = "a1";
  }
  SECTION("no time at all") { load.options.deadline = absl::ZeroDuration(); }
  CHECK_THAT(world.StatusOf(world.Call(load)), StatusIs(code, names));
  CHECK(Count<LoadCommand>(world, "a0") == 0);
  CHECK(world.Status().operations.empty());
}

TEST_CASE("a load that fails on one agent publishes nowhere", "[core]") {
  CoreWorld world;
  for (const char* name : kAll) world.Join(name);
  DeclareSmall(world);
  SECTION("refused") {
    world.Agent("a1").Refuse<LoadCommand>(
        absl::NotFoundError("model.safetensors"));
  }
  SECTION("while it reads") {
    world.Agent("a1").vote_outcome = absl::NotFoundError("model.safetensors");
  }
  const CallId load = StartLoad(world);
  CHECK_THAT(world.StatusOf(load), StatusIs(absl::StatusCode::kNotFound, "a1"));
  CHECK(world.Agent("a0").Published("trainer") == Version(0));
  CHECK(Count<AbortCommand>(world, "a0") == 1);
  CHECK(world.Agent("a0").operations.empty());
  CHECK(world.Idle());
}

TEST_CASE("a failed load into lent memory leaves it torn, a refused one not",
          "[core]") {
  CoreWorld world;
  for (const char* name : kAll) world.Join(name);
  DeclareSmall(world, Storage::kLent);
  for (const char* name : {"a0", "a1"}) {
    FakeAgent& agent = world.Agent(name);
    WriteEvent lent;
    lent.placement = agent.placements.begin()->first;
    lent.kind = WriteEvent::Kind::kLent;
    world.Tell(agent, lent, true);
  }
  REQUIRE_OK(world.StatusOf(StartLoad(world)));
  world.Agent("a1").Refuse<LoadCommand>(absl::NotFoundError("no file"));
  CHECK_THAT(world.StatusOf(StartLoad(world)),
             StatusIs(absl::StatusCode::kNotFound));
  GetModelRequest get;
  get.model = "policy";
  const auto placements =
      world.BodyOf<GetModelReply>(world.Call(get)).placements;
  REQUIRE(placements[1].placement == "trainer");
  CHECK(placements[1].replicas[0].exceptions ==
        std::vector<std::string>{"a0: torn"});
}

TEST_CASE("a sync publishes the source's version on all destinations",
          "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  const CallId sync = StartSync(world, "r1");
  CHECK_OK(world.StatusOf(sync));
  CHECK(PhasesOf(world, sync) ==
        std::vector<OperationPhase>{
            OperationPhase::kQueued, OperationPhase::kPlanning,
            OperationPhase::kPreparing, OperationPhase::kExecuting,
            OperationPhase::kCommitting, OperationPhase::kDone});
  const OperationResult result = *world.UpdatesOf(sync).back().result;
  CHECK(result.version == Version(1));
  // Both replicas get everything: 2 * 160 bytes.
  CHECK(result.certificate.bytes[0] + result.certificate.bytes[1] +
            result.certificate.bytes[2] ==
        320);
  CHECK_FALSE(result.plan_reused);
  for (const char* name : {"a2", "a3"}) {
    CHECK(world.Agent(name).Published("rollout") == Version(1));
  }
  for (const char* name : kAll) {
    CAPTURE(name);
    CHECK(Count<ExecuteCommand>(world, name) == 1);
    CHECK(Count<CommitCommand>(world, name) == (name[1] < '2' ? 2 : 1));
    CHECK(world.Agent(name).operations.empty());
    CHECK(world.Agent(name).undecided.empty());
  }
  CHECK_FALSE(world.HasStored("decision/"));
  CHECK(world.HasStored("outcome/r1"));
  CHECK(world.Idle());
}

TEST_CASE("the decision is durable before anybody commits", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  world.hold_writes = true;
  const CallId sync = StartSync(world);
  for (const char* name : kAll) {
    CHECK(world.Agent(name).undecided.size() == 1);
  }
  CHECK(world.num_held_writes() == 1);
  CHECK(world.ReplyTo(sync) == nullptr);
  // Too late to cancel: it completes.
  CancelRequest cancel;
  cancel.operation = world.UpdatesOf(sync).back().operation;
  CHECK_OK(world.StatusOf(world.Call(cancel)));
  world.Do(CallerGoneEvent{sync});
  CHECK(Count<AbortCommand>(world, "a2") == 0);
  world.hold_writes = false;
  world.ReleaseWrite();
  CHECK(world.Agent("a3").Published("rollout") == Version(1));
  // Nothing but the decision itself can be lost after that.
  CHECK(world.HasEvent("sync_done"));
}

TEST_CASE("a decision that does not fit on the disk aborts", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  world.write_error = absl::ResourceExhaustedError("disk full");
  const CallId sync = StartSync(world);
  CHECK_THAT(world.StatusOf(sync),
             StatusIs(absl::StatusCode::kResourceExhausted, "disk full"));
  CHECK(world.Agent("a2").Published("rollout") == Version(0));
  world.write_error = absl::OkStatus();
  CHECK_OK(world.StatusOf(StartSync(world)));
}

TEST_CASE("a repeated sync reuses the plan and names parts by digest",
          "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  REQUIRE_OK(world.StatusOf(StartSync(world)));
  REQUIRE_OK(world.StatusOf(StartLoad(world)));
  const CallId second = StartSync(world);
  REQUIRE_OK(world.StatusOf(second));
  CHECK(world.num_plans == 1);
  CHECK(world.UpdatesOf(second).back().result->plan_reused);
  CHECK(world.UpdatesOf(second).back().result->version == Version(2));
  const auto prepares = world.Agent("a2").Received<PrepareCommand>();
  REQUIRE(prepares.size() == 2);
  CHECK(prepares[0].part != nullptr);
  CHECK(prepares[1].part == nullptr);
  CHECK(prepares[0].part_digest == prepares[1].part_digest);
  CHECK(prepares[1].version == Version(2));

  SECTION("an agent that forgot its part gets it again") {
    world.Agent("a2").Refuse<PrepareCommand>(absl::NotFoundError("part"));
    world.on_command = [](FakeAgent& agent, const Command& command) {
      const auto* prepare = std::get_if<PrepareCommand>(&command.body);
      if (prepare != nullptr && prepare->part != nullptr) agent.StopRefusing();
      return false;
    };
    CHECK_OK(world.StatusOf(StartSync(world)));
    const auto later = world.Agent("a2").Received<PrepareCommand>();
    REQUIRE(later.size() == 4);
    CHECK(later[2].part == nullptr);
    CHECK(later[3].part != nullptr);
  }
  SECTION("and does not get it for ever") {
    world.Agent("a2").Refuse<PrepareCommand>(absl::NotFoundError("placement"));
    CHECK_THAT(world.StatusOf(StartSync(world)),
               StatusIs(absl::StatusCode::kNotFound, "a2"));
    CHECK(Count<PrepareCommand>(world, "a2") == 4);
  }
  SECTION("a new incarnation gets it, the others do not") {
    world.RestartAgent("a2");
    world.Advance(absl::Milliseconds(100));
    CHECK_OK(world.StatusOf(StartSync(world)));
    CHECK(world.num_plans == 1);
    CHECK(world.Agent("a2").Received<PrepareCommand>()[0].part != nullptr);
    CHECK(world.Agent("a3").Received<PrepareCommand>()[2].part == nullptr);
  }
  SECTION("another geometry is planned anew") {
    RemovePlacementRequest remove;
    remove.model = "policy";
    remove.placement = "rollout";
    REQUIRE_OK(world.StatusOf(world.Call(remove)));
    RegisterPlacementRequest rollout;
    rollout.model = "policy";
    rollout.placement = "rollout";
    rollout.axes = {{"data", 1}, {"tensor", 2}};
    rollout.agents = {"a2", "a3"};
    rollout.layout = ColumnLayout();
    REQUIRE_OK(world.StatusOf(world.Call(rollout)));
    const CallId sync = StartSync(world);
    CHECK_OK(world.StatusOf(sync));
    CHECK(world.num_plans == 2);
  }
}

TEST_CASE("planning a sync moves nothing and warms the plan", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  SyncRequest request = SmallSync();
  request.plan_only = true;
  const CallId call = world.Call(request);
  CHECK_OK(world.StatusOf(call));
  const auto& reply = world.BodyOf<PlanReply>(call);
  CHECK(reply.plan.certificate.num_transfers ==
        static_cast<int64_t>(reply.plan.transfers.size()));
  CHECK(reply.agent_of_rank ==
        std::vector<std::string>{"a0", "a1", "a2", "a3"});
  CHECK(Count<PrepareCommand>(world, "a2") == 0);
  const CallId sync = StartSync(world);
  CHECK(world.UpdatesOf(sync).back().result->plan_reused);
}

TEST_CASE("bad syncs are refused", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  SyncRequest sync = SmallSync();
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
  std::string names;
  SECTION("no destination") { sync.destinations.clear(); }
  SECTION("source and destination are one") {
    sync.destinations = {"trainer"};
    names = "trainer";
  }
  SECTION("a destination twice") { sync.destinations = {"rollout", "rollout"}; }
  SECTION("an unknown destination") {
    sync.destinations = {"elsewhere"};
    code = absl::StatusCode::kNotFound;
    names = "elsewhere";
  }
  SECTION("an unknown source") {
    sync.source = "elsewhere";
    code = absl::StatusCode::kNotFound;
  }
  SECTION("a source without a version") {
    sync.source = "rollout";
    sync.destinations = {"trainer"};
    code = absl::StatusCode::kFailedPrecondition;
    names = "a2: absent; a3: absent";
  }
  SECTION("a destination that is lost") {
    world.KillAgent("a3");
    world.Advance(absl::Seconds(11));
    code = absl::StatusCode::kFailedPrecondition;
    names = "a3";
  }
  SECTION("a destination that is suspect") {
    world.KillAgent("a3");
    code = absl::StatusCode::kUnavailable;
    names = "a3";
  }
  SECTION("a source that is suspect") {
    world.KillAgent("a1");
    code = absl::StatusCode::kUnavailable;
    names = "a1";
  }
  SECTION("a source that is lost") {
    world.KillAgent("a1");
    world.Advance(absl::Seconds(11));
    code = absl::StatusCode::kFailedPrecondition;
    names = "a1: lost";
  }
  SECTION("a negative staging budget") { sync.options.staging_bytes = -1; }
  SECTION("an overlong request id") {
    sync.options.request_id = std::string(257, 'r');
  }
  CHECK_THAT(world.StatusOf(world.Call(sync)), StatusIs(code, names));
  CHECK(Count<PrepareCommand>(world, "a2") == 0);
}

TEST_CASE("a sync waits for a write bracket to end", "[core]") {
  CoreWorld world;
  for (const char* name : kAll) world.Join(name);
  DeclareSmall(world, Storage::kLent);
  const auto tell = [&world](const char* name, WriteEvent::Kind kind,
                             int64_t step) {
    FakeAgent& agent = world.Agent(name);
    auto& [ref, held] = *agent.placements.begin();
    held.copies[0] = CopyInventory{};
    held.copies[0].state = CopyState::kPublished;
    held.copies[0].step = step;
    WriteEvent write;
    write.placement = ref;
    write.kind = kind;
    write.step = step;
    world.Tell(agent, write, true);
  };
  for (const char* name : {"a0", "a1"}) {
    tell(name, WriteEvent::Kind::kLent, 0);
    tell(name, WriteEvent::Kind::kBegun, 0);
  }
  const CallId sync = StartSync(world);
  CHECK(world.ReplyTo(sync) == nullptr);
  CHECK(world.UpdatesOf(sync).back().phase == OperationPhase::kQueued);
  world.Advance(absl::Seconds(3));
  tell("a0", WriteEvent::Kind::kEnded, 1);
  CHECK(world.ReplyTo(sync) == nullptr);
  SECTION("until it ends") {
    tell("a1", WriteEvent::Kind::kEnded, 1);
    CHECK_OK(world.StatusOf(sync));
    CHECK(world.Agent("a2").Published("rollout") == Version(1));
  }
  SECTION("but not for ever") {
    world.Advance(absl::Seconds(8));
    CHECK_THAT(
        world.StatusOf(sync),
        StatusIs(absl::StatusCode::kFailedPrecondition, "a1: being written"));
  }
}

TEST_CASE("only replicas with the newest version are read", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  REQUIRE_OK(world.StatusOf(StartSync(world)));  // rollout: two replicas, v1
  RegisterPlacementRequest reference;
  reference.model = "policy";
  reference.placement = "reference";
  reference.axes = {{"data", 1}, {"tensor", 2}};
  reference.agents = {"a0", "a1"};
  reference.layout = RowLayout();
  REQUIRE_OK(world.StatusOf(world.Call(reference)));
  world.RestartAgent("a2");  // its replica is empty now
  world.Advance(absl::Milliseconds(100));
  SyncRequest sync = SmallSync();
  sync.source = "rollout";
  sync.destinations = {"reference"};
  const CallId call = world.Call(sync);
  REQUIRE_OK(world.StatusOf(call));
  CHECK(Count<PrepareCommand>(world, "a2") == 0);
  CHECK(world.Agent("a0").Published("reference") == Version(1));
}

TEST_CASE("operations on one placement run one after the other", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  world.Agent("a2").Mute<ExecuteCommand>();
  const CallId first = StartSync(world);
  const CallId second = StartSync(world);
  const CallId load = StartLoad(world);  // writes what both read
  CHECK(world.UpdatesOf(first).back().phase == OperationPhase::kExecuting);
  CHECK(world.UpdatesOf(second).back().phase == OperationPhase::kQueued);
  CHECK(world.UpdatesOf(load).back().phase == OperationPhase::kQueued);
  // A placement that operations use is not removed.
  RemovePlacementRequest remove;
  remove.model = "policy";
  remove.placement = "rollout";
  CHECK_THAT(world.StatusOf(world.Call(remove)),
             StatusIs(absl::StatusCode::kFailedPrecondition));
  world.Agent("a2").Unmute<ExecuteCommand>();
  const OperationId id = world.UpdatesOf(first).back().operation;
  world.Agent("a2").undecided.insert(id);
  world.Tell(world.Agent("a2"), world.Agent("a2").Vote(id));
  CHECK_OK(world.StatusOf(first));
  CHECK_OK(world.StatusOf(second));
  CHECK_OK(world.StatusOf(load));
  CHECK(world.UpdatesOf(second).back().result->version == Version(1));
}

TEST_CASE("readers of one placement run together", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  RegisterPlacementRequest other;
  other.model = "policy";
  other.placement = "other";
  other.axes = {{"data", 2}, {"tensor", 1}};
  other.agents = {"a2", "a3"};
  other.layout = RowLayout();
  REQUIRE_OK(world.StatusOf(world.Call(other)));
  for (const char* name : kAll) world.Agent(name).votes = false;
  const CallId first = StartSync(world);
  SyncRequest sync = SmallSync();
  sync.destinations = {"other"};
  sync.options.staging_bytes = int64_t{1} << 20;
  const CallId second = world.Call(sync);
  CHECK(world.UpdatesOf(first).back().phase == OperationPhase::kExecuting);
  CHECK(world.UpdatesOf(second).back().phase == OperationPhase::kExecuting);
}

TEST_CASE("staging memory is never promised twice", "[core]") {
  CoreWorld world;
  for (const char* name : kAll) {
    FakeAgent& agent = world.Join(name, /*wait=*/false);
    agent.staging_bytes = 3 << 20;
    world.RestartAgent(name);
  }
  DeclareSmall(world);
  REQUIRE_OK(world.StatusOf(StartLoad(world)));
  for (const char* name : {"other", "third"}) {
    RegisterPlacementRequest other;
    other.model = "policy";
    other.placement = name;
    other.axes = {{"data", 2}, {"tensor", 1}};
    other.agents = {"a2", "a3"};
    other.layout = RowLayout();
    REQUIRE_OK(world.StatusOf(world.Call(other)));
  }
  for (const char* name : kAll) world.Agent(name).votes = false;
  SyncRequest sync = SmallSync();
  sync.options.staging_bytes = 2 << 20;
  const CallId first = world.Call(sync);
  CHECK(world.Agent("a2").Received<PrepareCommand>()[0].staging_bytes ==
        2 << 20);
  sync.destinations = {"other"};
  sync.options.staging_bytes = 1 << 20;  // 3 in all: just fits
  const CallId second = world.Call(sync);
  CHECK(world.UpdatesOf(second).back().phase == OperationPhase::kExecuting);
  sync.destinations = {"third"};
  sync.options.staging_bytes = 0;  // the agent's own budget
  const CallId third = world.Call(sync);
  CHECK(world.UpdatesOf(third).back().phase == OperationPhase::kPlanning);
  sync.options.staging_bytes = 4 << 20;
  world.Call(CancelRequest{{}, world.UpdatesOf(first).back().operation});
  CHECK_THAT(world.StatusOf(first), StatusIs(absl::StatusCode::kCancelled));
  sync.destinations = {"rollout"};
  CHECK_THAT(world.StatusOf(world.Call(sync)),
             StatusIs(absl::StatusCode::kResourceExhausted, "staging"));
}

TEST_CASE("who waits for staging memory is served in order", "[core]") {
  CoreWorld world;
  for (const char* name : kAll) {
    FakeAgent& agent = world.Join(name, /*wait=*/false);
    agent.staging_bytes = 1 << 20;  // room for one
    world.RestartAgent(name);
  }
  DeclareSmall(world);
  REQUIRE_OK(world.StatusOf(StartLoad(world)));
  std::vector<CallId> calls;
  for (const char* name : {"x", "y"}) {
    RegisterPlacementRequest other;
    other.model = "policy";
    other.placement = name;
    other.axes = {{"data", 2}, {"tensor", 1}};
    other.agents = {"a2", "a3"};
    other.layout = RowLayout();
    REQUIRE_OK(world.StatusOf(world.Call(other)));
  }
  for (const char* name : kAll) world.Agent(name).votes = false;
  for (const char* name : {"rollout", "x", "y"}) {
    SyncRequest sync = SmallSync();
    sync.destinations = {name};
    calls.push_back(world.Call(sync));
  }
  CHECK(world.UpdatesOf(calls[0]).back().phase == OperationPhase::kExecuting);
  CHECK(world.UpdatesOf(calls[1]).back().phase == OperationPhase::kPlanning);
  CHECK(world.UpdatesOf(calls[2]).back().phase == OperationPhase::kPlanning);
  world.Call(CancelRequest{{}, world.UpdatesOf(calls[0]).back().operation});
  CHECK(world.UpdatesOf(calls[1]).back().phase == OperationPhase::kExecuting);
  CHECK(world.UpdatesOf(calls[2]).back().phase == OperationPhase::kPlanning);
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

}  // namespace
}  // namespace sluice::coordinator
