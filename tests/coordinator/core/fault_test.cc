// Agents and the coordinator killed at every point of an operation; events
// repeated, late and out of order.

#include <catch2/catch.hpp>
#include <random>

#include "absl/strings/str_cat.h"
#include "tests/coordinator/core/core_world.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::StatusIs;

constexpr const char* kAll[] = {"a0", "a1", "a2", "a3"};

template <typename Body>
bool Is(const Command& command) {
  return std::holds_alternative<Body>(command.body);
}

using Matcher = bool (*)(const Command&);

// All destinations publish the same version; returns it.
Version CommonVersion(CoreWorld& world) {
  const Version version = world.Agent("a2").Published("rollout");
  CHECK(world.Agent("a3").Published("rollout") == version);
  return version;
}

void CheckNothingLeft(CoreWorld& world) {
  CHECK(world.Idle());
  CHECK_FALSE(world.HasStored("decision/"));
  for (const char* name : kAll) {
    CAPTURE(name);
    CHECK(world.Agent(name).operations.empty());
    CHECK(world.Agent(name).undecided.empty());
  }
}

TEST_CASE("an agent killed at any command of a sync", "[core][faults]") {
  // The victim is killed when it gets the command (it is not acted on).
  struct Case {
    const char* phase;
    Matcher matches;
    bool commits;
  };
  const Case where = GENERATE(Case{"preparing", Is<PrepareCommand>, false},
                              Case{"executing", Is<ExecuteCommand>, false},
                              Case{"committing", Is<CommitCommand>, true});
  const std::string victim = GENERATE("a0", "a2", "a3");
  CAPTURE(where.phase, victim);
  CoreWorld world;
  MakeLoaded(world);
  REQUIRE_OK(world.StatusOf(StartSync(world)));
  REQUIRE_OK(world.StatusOf(StartLoad(world)));  // version 2
  bool killed = false;
  world.on_command = [&](FakeAgent& agent, const Command& command) {
    if (agent.name != victim || killed || !where.matches(command)) return false;
    killed = true;
    world.KillAgent(victim);
    return true;
  };
  const CallId sync = StartSync(world);
  REQUIRE(killed);
  world.Advance(absl::Seconds(3));
  REQUIRE(world.ReplyTo(sync) != nullptr);  // it ends within 3 s
  if (where.commits) {
    CHECK_OK(world.StatusOf(sync));
    for (const char* name : {"a2", "a3"}) {
      if (name == victim) continue;
      CHECK(world.Agent(name).Published("rollout") == Version(2));
    }
  } else {
    CHECK_THAT(world.StatusOf(sync),
               StatusIs(absl::StatusCode::kUnavailable, victim));
    CHECK_THAT(world.StatusOf(sync),
               StatusIs(absl::StatusCode::kUnavailable, where.phase));
    // The old version stays whole on everyone else.
    for (const char* name : {"a2", "a3"}) {
      if (name == victim) continue;
      CHECK(world.Agent(name).Published("rollout") == Version(1));
    }
  }
  // Started again it joins, and the next sync succeeds.
  world.RestartAgent(victim);
  world.Advance(absl::Milliseconds(200));
  if (victim == "a0") REQUIRE_OK(world.StatusOf(StartLoad(world)));
  CHECK_OK(world.StatusOf(StartSync(world)));
  CHECK(CommonVersion(world) == Version(victim == "a0" ? 3 : 2));
  CheckNothingLeft(world);
}

TEST_CASE("an agent killed while the plan is made", "[core][faults]") {
  CoreWorld world;
  MakeLoaded(world);
  world.hold_plans = true;
  const CallId sync = StartSync(world);
  world.KillAgent("a3");
  world.hold_plans = false;
  world.ReleasePlans();
  CHECK_THAT(world.StatusOf(sync),
             StatusIs(absl::StatusCode::kUnavailable, "a3"));
  CheckNothingLeft(world);
}

TEST_CASE("an agent that stops ends a sync within lease and grace",
          "[core][faults]") {
  CoreWorld world;
  MakeLoaded(world);
  FakeAgent& stopped = world.Agent("a3");
  world.on_command = [&](FakeAgent& agent, const Command& command) {
    if (&agent != &stopped || !Is<ExecuteCommand>(command)) return false;
    agent.running = false;  // its stream stays open
    return true;
  };
  const CallId sync = StartSync(world);
  world.on_command = nullptr;
  world.Advance(absl::Seconds(12));
  CHECK_THAT(world.StatusOf(sync),
             StatusIs(absl::StatusCode::kUnavailable, "a3"));
  // It wakes up with half an operation, is refused, and joins again.
  stopped.running = true;
  world.Register(stopped);
  world.Advance(absl::Seconds(1));
  CHECK(stopped.operations.empty());
  CHECK_OK(world.StatusOf(StartSync(world)));
  CheckNothingLeft(world);
}

TEST_CASE("the peers of a killed agent name it", "[core][faults]") {
  CoreWorld world;
  MakeLoaded(world);
  for (const char* name : kAll) world.Agent(name).votes = false;
  const CallId sync = StartSync(world);
  const OperationId id = world.UpdatesOf(sync).back().operation;
  VoteEvent vote =
      world.Agent("a2").Vote(id, absl::UnavailableError("endpoint timeout"));
  vote.blamed = world.Agent("a0").rank;
  SECTION("before its stream breaks") {
    world.Tell(world.Agent("a2"), vote);
    CHECK_THAT(world.StatusOf(sync),
               StatusIs(absl::StatusCode::kUnavailable, "blames agent \"a0\""));
  }
  SECTION("after it: nobody waits for it to stop") {
    world.KillAgent("a0");
    world.Tell(world.Agent("a2"), vote);
    CHECK_THAT(world.StatusOf(sync), StatusIs(absl::StatusCode::kUnavailable,
                                              "agent \"a0\" broke off"));
  }
}

TEST_CASE("a stream that is back within the grace disturbs nothing",
          "[core][faults]") {
  const Matcher matches =
      GENERATE(Is<PrepareCommand>, Is<ExecuteCommand>, Is<CommitCommand>);
  const bool acted_on = GENERATE(false, true);
  CAPTURE(acted_on);
  CoreWorld world;
  MakeLoaded(world);
  bool broken = false;
  world.on_command = [&](FakeAgent& agent, const Command& command) {
    if (agent.name != "a3" || broken || !matches(command)) return false;
    broken = true;
    // Either the command or its answer is lost.
    if (acted_on) agent.OnCommand(command);
    world.Disconnect("a3");
    return true;
  };
  const CallId sync = StartSync(world);
  REQUIRE(broken);
  world.Advance(absl::Seconds(1));
  CHECK(world.ReplyTo(sync) == nullptr);
  world.on_command = nullptr;
  if (acted_on) {
    // The real agent answers a repeated id from its log; this one acts again,
    // except where that could not be.
    world.on_command = [&](FakeAgent& agent, const Command& command) {
      if (agent.name != "a3" || !matches(command)) return false;
      world.Tell(agent, CommandResult{command.id, {}});
      return true;
    };
  }
  world.Connect("a3");
  CHECK_OK(world.StatusOf(sync));
  CHECK(CommonVersion(world) == Version(1));
  CheckNothingLeft(world);
}

TEST_CASE("an agent that forgot an operation ends it", "[core][faults]") {
  CoreWorld world;
  MakeLoaded(world);
  for (const char* name : kAll) world.Agent(name).votes = false;
  const CallId sync = StartSync(world);
  FakeAgent& agent = world.Agent("a3");
  agent.operations.clear();  // it gave up alone, and its vote was lost
  world.Disconnect("a3");
  world.Connect("a3");
  CHECK_THAT(world.StatusOf(sync), StatusIs(absl::StatusCode::kAborted, "a3"));
}

TEST_CASE("agents that do not stop are not waited for long", "[core][faults]") {
  CoreWorld world;
  MakeLoaded(world);
  world.Agent("a2").votes = false;
  world.Agent("a2").Mute<AbortCommand>();
  const CallId sync = StartSync(world);
  const OperationId id = world.UpdatesOf(sync).back().operation;
  world.Call(CancelRequest{{}, id});
  CHECK(world.ReplyTo(sync) == nullptr);
  world.Advance(absl::Seconds(3));
  CHECK_THAT(world.StatusOf(sync), StatusIs(absl::StatusCode::kCancelled));
  // It stops at last and may forget the operation.
  world.Agent("a2").operations.insert(id);
  world.Tell(world.Agent("a2"), StoppedEvent{id});
  CHECK(world.Agent("a2").operations.empty());
}

// Runs a sync with all writes held; the coordinator is killed after `writes` of
// them became durable, unheard.
TEST_CASE("the coordinator killed around the decision", "[core][faults]") {
  CoreWorld world;
  MakeLoaded(world);
  REQUIRE_OK(world.StatusOf(StartSync(world)));  // version 1 everywhere
  REQUIRE_OK(world.StatusOf(StartLoad(world)));  // version 2 at the source
  world.hold_writes = true;
  StartSync(world, "r1");
  REQUIRE(world.num_held_writes() == 1);
  for (const char* name : kAll) {
    REQUIRE(world.Agent(name).undecided.size() == 1);
  }
  const bool durable = GENERATE(false, true);
  CAPTURE(durable);
  if (durable) world.MakeDurableUnheard();
  world.hold_writes = false;
  world.Restart();
  // Before agents are back nothing is answered but what is known.
  const CallId early = StartSync(world, "r1");
  if (durable) {
    CHECK_OK(world.StatusOf(early));
    CHECK(world.UpdatesOf(early).back().result->version == Version(2));
  } else {
    CHECK_THAT(world.StatusOf(early),
               StatusIs(absl::StatusCode::kUnavailable, "a0, a1, a2, a3"));
  }
  world.Advance(absl::Seconds(1));
  CHECK(CommonVersion(world) == Version(durable ? 2 : 1));
  CheckNothingLeft(world);
  CHECK_OK(world.StatusOf(StartSync(world, "r1")));
  CHECK(CommonVersion(world) == Version(2));
}

TEST_CASE("the coordinator killed after k of n commits", "[core][faults]") {
  const size_t k = GENERATE(1u, 2u, 3u, 4u);
  CAPTURE(k);
  CoreWorld world;
  MakeLoaded(world);
  size_t commits = 0;
  world.on_command = [&](FakeAgent& agent, const Command& command) {
    if (!Is<CommitCommand>(command) || ++commits != k) return false;
    agent.OnCommand(command);
    world.Kill();
    return true;
  };
  StartSync(world, "r1");
  REQUIRE(commits == k);
  world.on_command = nullptr;
  world.Restart();
  world.Advance(absl::Seconds(1));
  CHECK(CommonVersion(world) == Version(1));
  CheckNothingLeft(world);
  const CallId retry = StartSync(world, "r1");
  CHECK_OK(world.StatusOf(retry));
  CHECK(world.Agent("a2").Received<ExecuteCommand>().size() == 1);
}

TEST_CASE(
    "the coordinator killed at each command of a load, a sync and a "
    "redistribution",
    "[core][faults]") {
  // Kills at the n-th command whatever it is, until an operation survives n.
  for (size_t n = 1; n < 60; ++n) {
    CAPTURE(n);
    CoreWorld world;
    MakeLoaded(world);
    Put(world, "a0", {Sample("s1", "prompt")});
    size_t commands = 0;
    bool killed = false;
    world.on_command = [&](FakeAgent&, const Command&) {
      if (killed || ++commands < n) return false;
      killed = true;
      world.Kill();
      return true;
    };
    const auto next = [&] {
      if (!killed) StartSync(world, "sync");
      if (!killed) StartLoad(world, "trainer", "load");
      RedistributeRequest want;
      want.wants = {{{"a2"}, {"s1"}, {"prompt"}}};
      want.pattern = Pattern::kDirect;
      want.options.request_id = "want";
      if (!killed) world.Call(want);
    };
    next();
    world.on_command = nullptr;
    if (!killed) return;  // all three went through
    world.Restart();
    world.Advance(absl::Seconds(1));
    REQUIRE_FALSE(world.Status().recovering);
    CheckNothingLeft(world);
    CommonVersion(world);
    // The same requests again bring everything to the same end.
    CHECK_OK(world.StatusOf(StartSync(world, "sync")));
    CHECK_OK(world.StatusOf(StartLoad(world, "trainer", "load")));
    CHECK(world.Agent("a0").Published("trainer") == Version(2));
    RedistributeRequest want;
    want.wants = {{{"a2"}, {"s1"}, {"prompt"}}};
    want.pattern = Pattern::kDirect;
    want.options.request_id = "want";
    CHECK_OK(world.StatusOf(world.Call(want)));
    LocateRequest locate;
    locate.sample_ids = {"s1"};
    const CallId call = world.Call(locate);
    REQUIRE_OK(world.StatusOf(call));
    CHECK(world.BodyOf<LocateReply>(call).locations[0].holders ==
          std::vector<std::string>{"a0", "a2"});
    CheckNothingLeft(world);
  }
  FAIL("operations of more than 60 commands");
}

TEST_CASE("an agent away at the decision gets it when it is back",
          "[core][faults]") {
  CoreWorld world;
  MakeLoaded(world);
  world.on_command = [&](FakeAgent& agent, const Command& command) {
    if (agent.name != "a3" || !Is<CommitCommand>(command)) return false;
    world.Disconnect("a3");
    return true;
  };
  const CallId sync = StartSync(world);
  world.Advance(absl::Seconds(3));
  CHECK_OK(world.StatusOf(sync));
  world.on_command = nullptr;
  FakeAgent& away = world.Agent("a3");
  SECTION("with its stream") { world.Connect("a3"); }
  SECTION("after its lease lapsed, in the same life") {
    away.running = false;
    world.Advance(absl::Seconds(11));
    REQUIRE(world.StateOf("a3") == AgentState::kLost);
    away.running = true;
    world.Register(away);
  }
  SECTION("from another coordinator") {
    world.Restart();
    world.Advance(absl::Seconds(1));
  }
  SECTION("never, as another life: it is not asked again") {
    world.RestartAgent("a3");
    CHECK(away.Received<CommitCommand>().empty());
    CHECK_FALSE(world.HasStored("decision/"));
    return;
  }
  CHECK(away.Published("rollout") == Version(1));
  CHECK_FALSE(world.HasStored("decision/"));
  CheckNothingLeft(world);
}

TEST_CASE("operations nobody knows are ended on agents", "[core][faults]") {
  CoreWorld world;
  MakeLoaded(world);
  FakeAgent& agent = world.Agent("a2");
  agent.operations = {OperationId(777), OperationId(778)};
  agent.undecided = {OperationId(778)};
  world.Disconnect("a2");
  world.Connect("a2");
  CHECK(agent.Received<AbortCommand>().size() == 2);
  CHECK(agent.operations.empty());
  CHECK(agent.undecided.empty());
}

TEST_CASE("events that come twice or late change nothing", "[core][faults]") {
  CoreWorld world;
  MakeLoaded(world);
  std::vector<AgentMessageEvent> seen;
  world.on_command = [&](FakeAgent& agent, const Command& command) {
    for (AgentEvent& event : agent.OnCommand(command)) {
      AgentMessageEvent message{agent.rank, std::move(event)};
      seen.push_back(message);
      world.Do(message);
      world.Do(message);
    }
    return true;
  };
  CHECK_OK(world.StatusOf(StartSync(world)));
  CHECK_OK(world.StatusOf(StartLoad(world)));
  CHECK_OK(world.StatusOf(StartSync(world)));
  const size_t commands = world.Agent("a2").received.size();
  // Everything once more, backwards.
  const std::vector<AgentMessageEvent> old = seen;
  for (auto it = old.rbegin(); it != old.rend(); ++it) world.Do(*it);
  CHECK(CommonVersion(world) == Version(2));
  for (const Command& command : world.Agent("a2").received) {
    CHECK_FALSE(Is<AbortCommand>(command));
  }
  // Late Stopped events may be answered with a Release, no more.
  for (size_t i = commands; i < world.Agent("a2").received.size(); ++i) {
    CHECK(Is<ReleaseCommand>(world.Agent("a2").received[i]));
  }
  CheckNothingLeft(world);
}

TEST_CASE("a coordinator that dies again while it recovers", "[core][faults]") {
  CoreWorld world;
  MakeLoaded(world);
  world.hold_writes = true;
  StartSync(world, "r1");
  world.MakeDurableUnheard();
  world.hold_writes = false;
  for (int i = 0; i < 3; ++i) world.Restart();
  world.Agent("a3").running = false;
  world.Advance(absl::Seconds(1));
  world.Restart();
  world.Advance(absl::Seconds(1));
  CHECK(world.Agent("a2").Published("rollout") == Version(1));
  CHECK(world.HasStored("decision/"));
  world.Agent("a3").running = true;
  world.Advance(absl::Seconds(1));
  CHECK(CommonVersion(world) == Version(1));
  CheckNothingLeft(world);
}

TEST_CASE("random kills leave all destinations on one version",
          "[core][faults]") {
  const uint32_t seed = GENERATE(range(1u, 41u));
  CAPTURE(seed);
  std::mt19937 random(seed);
  const auto chance = [&random](uint32_t one_in) {
    return random() % one_in == 0;
  };
  CoreWorld world;
  MakeLoaded(world);
  world.on_command = [&](FakeAgent& agent, const Command&) {
    if (chance(40)) {
      world.Disconnect(agent.name);
      return true;
    }
    if (chance(120)) {
      world.KillAgent(agent.name);
      return true;
    }
    if (chance(200)) {
      world.Kill();
      return true;
    }
    return false;
  };
  for (int round = 0; round < 12; ++round) {
    StartSync(world, absl::StrCat("sync-", round));
    StartLoad(world, "trainer", absl::StrCat("load-", round));
    world.Advance(absl::Seconds(1 + random() % 3));
    world.Restart();
    for (const char* name : kAll) {
      FakeAgent& agent = world.Agent(name);
      if (!agent.running) {
        world.RestartAgent(name);
      } else if (!agent.connected) {
        world.Connect(name);
      }
    }
    world.Advance(absl::Seconds(1));
  }
  world.on_command = nullptr;
  for (const char* name : kAll) {
    if (!world.Agent(name).running) world.RestartAgent(name);
  }
  world.Restart();
  world.Advance(absl::Seconds(15));
  REQUIRE_OK(world.StatusOf(StartLoad(world)));
  REQUIRE_OK(world.StatusOf(StartSync(world)));
  CHECK(CommonVersion(world) == world.Agent("a0").Published("trainer"));
  CheckNothingLeft(world);
}

}  // namespace
}  // namespace sluice::coordinator
