#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"
#include "tests/coordinator/core/core_world.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::StatusIs;

RegisterAgentEvent Registration(const std::string& name, uint64_t incarnation) {
  RegisterAgentEvent event;
  event.name = name;
  event.node = "node-0";
  event.address = absl::StrCat(name, ":1");
  event.incarnation = Incarnation(incarnation);
  event.memory_bytes = 1000;
  return event;
}

TEST_CASE("the epoch is durable before anybody is answered", "[core]") {
  CoreWorld world;
  CHECK(world.Status().epoch == Epoch(1));
  world.Kill();
  world.hold_writes = true;
  world.Restart();
  const CallId status = world.Call(StatusRequest{});
  const CallId agent = world.Call(Registration("a0", 7));
  CHECK(world.ReplyTo(status) == nullptr);
  CHECK(world.ReplyTo(agent) == nullptr);

  world.ReleaseWrite();
  CHECK(world.BodyOf<StatusSnapshot>(status).epoch == Epoch(2));
  CHECK(world.BodyOf<StatusSnapshot>(status).cluster_id == "cluster-1");
}

TEST_CASE("an epoch that cannot be written ends the process", "[core]") {
  CoreWorld world;
  world.write_error = GENERATE(absl::ResourceExhaustedError("disk full"),
                               absl::InternalError("disk failed"));
  world.Restart();
  REQUIRE(world.fatal().has_value());
}

TEST_CASE("ranks are durable before they are told, and stable", "[core]") {
  CoreWorld world;
  world.hold_writes = true;
  const CallId first = world.Call(Registration("a0", 7));
  const CallId second = world.Call(Registration("a1", 8));
  CHECK(world.ReplyTo(first) == nullptr);
  world.ReleaseWrite();
  world.ReleaseWrite();
  CHECK(world.BodyOf<RegisterAgentReply>(first).rank == Rank(0));
  CHECK(world.BodyOf<RegisterAgentReply>(second).rank == Rank(1));

  world.hold_writes = false;
  world.Restart();
  const CallId again = world.Call(Registration("a1", 9));
  CHECK(world.BodyOf<RegisterAgentReply>(again).rank == Rank(1));
  CHECK(world.BodyOf<RegisterAgentReply>(again).epoch == Epoch(2));
}

TEST_CASE("bad registrations are refused", "[core]") {
  CoreOptions options;
  options.max_agents = 1;
  CoreWorld world(options);
  RegisterAgentEvent bad = Registration("a0", 7);
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
  SECTION("no name") { bad.name = ""; }
  SECTION("a long name") { bad.name = std::string(129, 'x'); }
  SECTION("no node") { bad.node = ""; }
  SECTION("no address") { bad.address = ""; }
  SECTION("no incarnation") { bad.incarnation = Incarnation(0); }
  SECTION("another cluster") {
    bad.cluster_id = "cluster-2";
    code = absl::StatusCode::kFailedPrecondition;
  }
  SECTION("too many agents") {
    world.Call(Registration("b0", 8));
    code = absl::StatusCode::kResourceExhausted;
  }
  CHECK_THAT(world.StatusOf(world.Call(bad)), StatusIs(code));
}

TEST_CASE("an agent is alive when its inventory is complete", "[core]") {
  CoreWorld world;
  FakeAgent& agent = world.Join("a0", /*wait=*/false);
  CHECK(world.StateOf("a0") == AgentState::kAlive);
  REQUIRE(agent.received.size() == 1);
  CHECK(agent.Received<WelcomeCommand>()[0].rank == Rank(0));
  CHECK(agent.received[0].epoch == Epoch(1));

  FakeAgent& silent = world.Join("a1", /*wait=*/false);
  CHECK(world.StateOf("a1") == AgentState::kAlive);
  world.Disconnect("a1");
  silent.Mute<WelcomeCommand>();
  world.Connect("a1");
  CHECK(world.StateOf("a1") == AgentState::kSuspect);
  CHECK(silent.Received<WelcomeCommand>().size() == 2);
}

TEST_CASE("an inventory in several pages counts when it is whole", "[core]") {
  CoreWorld world;
  FakeAgent& agent = world.Join("a0");
  world.Disconnect("a0");
  agent.Mute<WelcomeCommand>();
  world.Connect("a0");
  InventoryEvent page;
  page.samples = {Sample("s1", "k")};
  page.owned = {true};
  page.more = true;
  world.Tell(agent, page);
  CHECK(world.StateOf("a0") == AgentState::kSuspect);
  CHECK(world.Status().samples == 0);
  page.samples = {Sample("s2", "k")};
  page.more = false;
  world.Tell(agent, page);
  CHECK(world.StateOf("a0") == AgentState::kAlive);
  CHECK(world.Status().samples == 2);
  // A repeated page is old news.
  world.Tell(agent, page);
  CHECK(world.Status().samples == 2);
}

TEST_CASE("all live agents are told their peers", "[core]") {
  CoreWorld world;
  world.Join("a0");
  world.Join("a1");
  const auto peers = world.Agent("a0").Received<SetPeersCommand>();
  REQUIRE(!peers.empty());
  REQUIRE(peers.back().peers.size() == 2);
  CHECK(peers.back().peers[1].name == "a1");
  CHECK(peers.back().peers[1].incarnation == world.Agent("a1").incarnation);
  world.RestartAgent("a1");
  world.Advance(absl::Milliseconds(100));
  const auto later = world.Agent("a0").Received<SetPeersCommand>();
  CHECK(later.back().peers[1].incarnation == world.Agent("a1").incarnation);
  CHECK(later.size() > peers.size());
}

TEST_CASE("a heartbeat of nobody is told to register", "[core]") {
  CoreWorld world;
  FakeAgent& agent = world.Join("a0");
  HeartbeatEvent beat;
  beat.name = "a9";
  CHECK_THAT(world.StatusOf(world.Call(beat)),
             StatusIs(absl::StatusCode::kNotFound, "a9"));
  beat.name = "a0";
  CHECK_THAT(world.StatusOf(world.Call(beat)),
             StatusIs(absl::StatusCode::kAborted));
  beat.incarnation = agent.incarnation;
  CHECK_OK(world.StatusOf(world.Call(beat)));
}

TEST_CASE("a lapsed lease makes an agent lost", "[core]") {
  CoreWorld world;
  FakeAgent& agent = world.Join("a0");
  agent.running = false;  // stopped: its stream does not break
  world.Advance(absl::Seconds(4));
  CHECK(world.StateOf("a0") == AgentState::kSuspect);
  world.Advance(absl::Seconds(7));
  CHECK(world.StateOf("a0") == AgentState::kLost);
  CHECK_FALSE(agent.connected);
  CHECK(world.HasEvent("agent_lost", "a0"));

  // A zombie is refused, and joins again by registering.
  HeartbeatEvent beat;
  beat.name = "a0";
  beat.incarnation = agent.incarnation;
  CHECK_THAT(world.StatusOf(world.Call(beat)),
             StatusIs(absl::StatusCode::kAborted, "lapsed"));
  world.Tell(agent, SamplesAddedEvent{{Sample("s", "k")}}, true);
  CHECK(world.Status().samples == 0);
  agent.running = true;
  world.Register(agent);
  CHECK(world.StateOf("a0") == AgentState::kAlive);
}

TEST_CASE("a stop shorter than the lease leaves an agent suspect, then alive",
          "[core]") {
  CoreWorld world;
  FakeAgent& agent = world.Join("a0");
  agent.running = false;
  world.Advance(absl::Seconds(5));
  CHECK(world.StateOf("a0") == AgentState::kSuspect);
  agent.running = true;
  world.Advance(absl::Seconds(1));
  CHECK(world.StateOf("a0") == AgentState::kAlive);
}

TEST_CASE("a broken stream loses nothing that was under way", "[core]") {
  CoreWorld world;
  FakeAgent& agent = world.Join("a0");
  Put(world, "a0", {Sample("s1", "k"), Sample("s2", "k")});
  agent.Mute<ClearSamplesCommand>();
  ClearRequest clear;
  clear.sample_ids = {"s1"};
  CHECK_OK(world.StatusOf(world.Call(clear)));
  world.Disconnect("a0");
  CHECK(world.StateOf("a0") == AgentState::kSuspect);
  agent.Unmute<ClearSamplesCommand>();
  world.Connect("a0");
  CHECK(world.StateOf("a0") == AgentState::kAlive);
  // Sent again under the same id, and never visible meanwhile.
  std::vector<CommandId> ids;
  for (const Command& command : agent.received) {
    if (std::holds_alternative<ClearSamplesCommand>(command.body)) {
      ids.push_back(command.id);
    }
  }
  REQUIRE(ids.size() == 2);
  CHECK(ids[0] == ids[1]);
  CHECK(world.Status().samples == 1);
  CHECK(agent.samples.size() == 1);
  // Answered now: not sent a third time.
  world.Disconnect("a0");
  world.Connect("a0");
  CHECK(agent.Received<ClearSamplesCommand>().size() == 2);
}

TEST_CASE("a new incarnation replaces the old one at once", "[core]") {
  CoreWorld world;
  FakeAgent& agent = world.Join("a0");
  world.Join("a1");
  Put(world, "a0", {Sample("s", "k")});
  const Incarnation old = agent.incarnation;
  world.KillAgent("a0");
  agent.StartAgain(55);
  agent.address = "a0:2";  // another port
  world.Register(agent);
  CHECK(world.StateOf("a0") == AgentState::kAlive);
  CHECK(world.Status().samples == 0);
  CHECK(world.Status().agents[0].rank == Rank(0));

  // What the old one still says is ignored, and it does not come back.
  AgentEvent late = agent.Event(SamplesAddedEvent{{Sample("s", "k")}});
  late.incarnation = old;
  world.Do(AgentMessageEvent{Rank(0), late});
  world.Do(StreamUpEvent{Rank(0), old});
  world.Do(StreamDownEvent{Rank(0), old});
  CHECK(world.Status().samples == 0);
  CHECK(world.StateOf("a0") == AgentState::kAlive);
  CHECK_THAT(world.StatusOf(world.Call(Registration("a0", old.value()))),
             StatusIs(absl::StatusCode::kAborted));
}

TEST_CASE("two live processes of one name: the second is refused", "[core]") {
  CoreWorld world;
  world.Join("a0");
  RegisterAgentEvent second = Registration("a0", 9);
  second.address = "elsewhere:1";
  CHECK_THAT(world.StatusOf(world.Call(second)),
             StatusIs(absl::StatusCode::kAlreadyExists, "a0:1"));
  // Once the first is silent it is another one's turn.
  world.Agent("a0").running = false;
  world.Advance(absl::Seconds(4));
  CHECK_OK(world.StatusOf(world.Call(second)));
}

TEST_CASE("registering again is no new life", "[core]") {
  CoreWorld world;
  FakeAgent& agent = world.Join("a0");
  Put(world, "a0", {Sample("s", "k")});
  world.Register(agent);
  CHECK(world.StateOf("a0") == AgentState::kAlive);
  CHECK(world.Status().samples == 1);
  CHECK(agent.Received<WelcomeCommand>().size() == 1);
}

TEST_CASE("a coordinator that stood still blames nobody", "[core]") {
  CoreWorld world;
  world.Join("a0");
  world.Join("a1");
  world.Stall(absl::Seconds(30));
  world.Do(TickEvent{});
  CHECK(world.StateOf("a0") == AgentState::kAlive);
  CHECK(world.HasEvent("stalled"));
  world.Advance(absl::Seconds(12));
  CHECK(world.StateOf("a1") == AgentState::kAlive);
}

TEST_CASE("many leases that lapse at once are held for a grace", "[core]") {
  CoreWorld world;
  for (const char* name : {"a0", "a1", "a2"}) world.Join(name);
  world.Agent("a0").running = world.Agent("a1").running = false;
  world.Advance(absl::Seconds(11));
  CHECK(world.HasEvent("mass_expiry_held"));
  CHECK(world.StateOf("a0") == AgentState::kSuspect);
  SECTION("who comes back is spared") {
    world.Agent("a0").running = true;
    world.Advance(absl::Seconds(3));
    CHECK(world.StateOf("a0") == AgentState::kAlive);
    CHECK(world.StateOf("a1") == AgentState::kLost);
  }
  SECTION("who does not is lost") {
    world.Advance(absl::Seconds(3));
    CHECK(world.StateOf("a0") == AgentState::kLost);
    CHECK(world.StateOf("a1") == AgentState::kLost);
  }
}

TEST_CASE("a draining agent gets nothing new and leaves quietly", "[core]") {
  CoreWorld world;
  FakeAgent& agent = world.Join("a0");
  DrainEvent drain;
  drain.name = "a0";
  drain.incarnation = agent.incarnation;
  CHECK_OK(world.StatusOf(world.Call(drain)));
  CHECK(world.StateOf("a0") == AgentState::kDraining);
  world.KillAgent("a0");
  world.Advance(absl::Seconds(3));
  CHECK(world.StateOf("a0") == AgentState::kLost);
  // It is not awaited after a restart.
  world.Restart();
  CHECK_FALSE(world.Status().recovering);
}

TEST_CASE("after a restart known agents are awaited for a lease", "[core]") {
  CoreWorld world;
  world.Join("a0");
  world.Join("a1");
  Put(world, "a0", {Sample("s0", "k")});
  Put(world, "a1", {Sample("s1", "k")});
  world.Agent("a1").running = false;
  world.Kill();
  world.Restart();
  LocateRequest locate;
  locate.sample_ids = {"s0"};
  CHECK_THAT(world.StatusOf(world.Call(locate)),
             StatusIs(absl::StatusCode::kUnavailable, "a0, a1"));
  ListSamplesRequest list;
  CHECK_THAT(world.StatusOf(world.Call(list)),
             StatusIs(absl::StatusCode::kUnavailable));

  world.Advance(absl::Seconds(1));  // a0 beats, is told to register, is back
  CHECK(world.Status().awaited == std::vector<std::string>{"a1"});
  CHECK_THAT(world.StatusOf(world.Call(locate)),
             StatusIs(absl::StatusCode::kUnavailable, "a1"));
  SECTION("all come back: nothing is lost") {
    world.Agent("a1").running = true;
    world.Advance(absl::Seconds(1));
    CHECK_FALSE(world.Status().recovering);
    CHECK(world.Status().samples == 2);
    CHECK_OK(world.StatusOf(world.Call(locate)));
  }
  SECTION("one does not: it is lost after the lease") {
    world.Advance(absl::Seconds(10));
    CHECK_FALSE(world.Status().recovering);
    CHECK(world.StateOf("a1") == AgentState::kLost);
    locate.sample_ids = {"s1"};
    CHECK_THAT(world.StatusOf(world.Call(locate)),
               StatusIs(absl::StatusCode::kNotFound, "s1"));
  }
}

TEST_CASE("hundreds of agents join and beat", "[core]") {
  CoreWorld world;
  for (int i = 0; i < 300; ++i) {
    world.Call(
        Registration(absl::StrCat("agent-", i), static_cast<uint64_t>(i) + 1));
  }
  for (int i = 0; i < 300; ++i) {
    HeartbeatEvent beat;
    beat.name = absl::StrCat("agent-", i);
    beat.incarnation = Incarnation(static_cast<uint64_t>(i) + 1);
    REQUIRE_OK(world.StatusOf(world.Call(beat)));
  }
  CHECK(world.Status().agents.size() == 300);
}

TEST_CASE("a full disk refuses newcomers and spares the process", "[core]") {
  CoreWorld world;
  world.Join("a0");
  world.write_error = absl::ResourceExhaustedError("disk full");
  CHECK_THAT(world.StatusOf(world.Call(Registration("a1", 9))),
             StatusIs(absl::StatusCode::kResourceExhausted));
  CHECK(world.StateOf("a0") == AgentState::kAlive);
  // What nobody waits for is written when there is room again.
  world.Agent("a0").running = false;
  world.Advance(absl::Seconds(12));
  CHECK(world.StateOf("a0") == AgentState::kLost);
  CHECK_FALSE(std::get<AgentRecord>(world.stored().at("agent/a0")).gone);
  world.write_error = absl::OkStatus();
  world.Advance(absl::Milliseconds(200));
  CHECK(std::get<AgentRecord>(world.stored().at("agent/a0")).gone);
  CHECK_OK(world.StatusOf(world.Call(Registration("a1", 9))));
  CHECK_FALSE(world.fatal().has_value());
}

}  // namespace
}  // namespace sluice::coordinator
