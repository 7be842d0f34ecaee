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
  CHECK(reply.casts.empty());
  CHECK(reply.warnings.empty());
  CHECK(Count<PrepareCommand>(world, "a2") == 0);
  const CallId sync = StartSync(world);
  CHECK(world.UpdatesOf(sync).back().result->plan_reused);
}

TEST_CASE("a planned sync says what it casts and which blocks it cuts",
          "[core]") {
  CoreWorld world;
  for (const char* name : kAll) world.Join(name);
  RegisterModelRequest model;
  model.model = SmallModel();
  model.model.tensors[0].block = {3, 4};  // rows 0 to 4 cut one
  REQUIRE_OK(world.StatusOf(world.Call(model)));
  RegisterPlacementRequest place;
  place.model = "policy";
  place.placement = "trainer";
  place.axes = {{"data", 1}, {"tensor", 2}};
  place.agents = {"a0", "a1"};
  place.layout = RowLayout();
  place.storage = Storage::kArena;
  REQUIRE_OK(world.StatusOf(world.Call(place)));
  place.placement = "rollout";
  place.axes = {{"data", 2}, {"tensor", 1}};
  place.agents = {"a2", "a3"};
  place.layout.rules[0].dtype = DType::kBF16;
  REQUIRE_OK(world.StatusOf(world.Call(place)));
  REQUIRE_OK(world.StatusOf(StartLoad(world)));
  SyncRequest request = SmallSync();
  request.plan_only = true;
  const CallId call = world.Call(request);
  REQUIRE_OK(world.StatusOf(call));
  const auto& reply = world.BodyOf<PlanReply>(call);
  CHECK(reply.casts == std::vector<Cast>{{"rollout", DType::kF32, DType::kBF16,
                                          DType::kBF16, 2}});
  REQUIRE(reply.warnings.size() == 1);
  CHECK(reply.warnings[0].find("placement \"trainer\": tensor \"w\"") !=
        std::string::npos);
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
  SECTION("a staging budget below the smallest bucket") {
    sync.options.staging_bytes = 4096;
    names = "4096";
  }
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

TEST_CASE("a vote, or a stop, answers the execute: it is not sent again",
          "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  FakeAgent& agent = world.Agent("a2");
  SECTION("voted") { CHECK_OK(world.StatusOf(StartSync(world))); }
  SECTION("stopped") {
    agent.votes = false;
    const CallId sync = StartSync(world);
    world.KillAgent("a0");
    world.Advance(absl::Seconds(3));
    CHECK_THAT(world.StatusOf(sync),
               StatusIs(absl::StatusCode::kUnavailable, "a0"));
  }
  REQUIRE(agent.Received<ExecuteCommand>().size() == 1);
  world.Disconnect("a2");
  world.Connect("a2");
  CHECK(agent.Received<ExecuteCommand>().size() == 1);
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

}  // namespace
}  // namespace sluice::coordinator
