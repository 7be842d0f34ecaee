#include <catch2/catch.hpp>

#include "absl/algorithm/container.h"
#include "tests/coordinator/core/core_world.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::StatusIs;

void JoinFour(CoreWorld& world) {
  for (const char* name : {"a0", "a1", "a2", "a3"}) world.Join(name);
}

RedistributeRequest Want(std::vector<std::string> agents,
                         std::vector<std::string> ids,
                         Pattern pattern = Pattern::kDirect) {
  RedistributeRequest request;
  request.wants = {{std::move(agents), std::move(ids), {"prompt"}}};
  request.pattern = pattern;
  return request;
}

std::vector<std::string> HoldersOf(CoreWorld& world, const std::string& id) {
  LocateRequest locate;
  locate.sample_ids = {id};
  const CallId call = world.Call(locate);
  REQUIRE_OK(world.StatusOf(call));
  return world.BodyOf<LocateReply>(call).locations.at(0).holders;
}

TEST_CASE("samples are acked when the catalogue has them", "[core]") {
  CoreWorld world;
  FakeAgent& agent = world.Join("a0");
  Put(world, "a0", {Sample("s1", "prompt"), Sample("s1", "reward", 1)});
  REQUIRE(agent.Received<EventAck>().size() == 1);
  CHECK_OK(agent.Received<EventAck>()[0].outcome);
  LocateRequest locate;
  locate.sample_ids = {"s1"};
  const CallId call = world.Call(locate);
  const auto& locations = world.BodyOf<LocateReply>(call).locations;
  REQUIRE(locations.size() == 2);
  CHECK(locations[0].entry.key == "prompt");
  CHECK(locations[0].owner == "a0");

  // Sent again because the ack was lost; and put differently.
  world.Do(AgentMessageEvent{
      agent.rank, agent.Event(SamplesAddedEvent{{Sample("s1", "prompt")}}, 1)});
  CHECK_OK(agent.Received<EventAck>().back().outcome);
  world.Tell(agent, SamplesAddedEvent{{Sample("s1", "prompt", 9)}}, true);
  CHECK_THAT(agent.Received<EventAck>().back().outcome,
             StatusIs(absl::StatusCode::kInvalidArgument, "s1"));
  CHECK(world.Status().sample_tensors == 2);
}

TEST_CASE("bad locates are refused", "[core]") {
  CoreWorld world;
  world.Join("a0");
  LocateRequest locate;
  CHECK_THAT(world.StatusOf(world.Call(locate)),
             StatusIs(absl::StatusCode::kInvalidArgument));
  locate.sample_ids = {"s9"};
  CHECK_THAT(world.StatusOf(world.Call(locate)),
             StatusIs(absl::StatusCode::kNotFound, "s9"));
  locate.sample_ids.assign(65537, "s");
  CHECK_THAT(world.StatusOf(world.Call(locate)),
             StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_CASE("lists page by token", "[core]") {
  CoreWorld world;
  world.Join("a0");
  for (const char* id : {"s3", "s1", "s2"}) {
    Put(world, "a0", {Sample(id, "prompt")});
  }
  ListSamplesRequest list;
  list.page_size = 2;
  const auto first = world.BodyOf<ListSamplesReply>(world.Call(list));
  CHECK(first.sample_ids == std::vector<std::string>{"s1", "s2"});
  CHECK(first.next_page_token == "s2");
  CHECK(first.total == 3);
  list.page_token = first.next_page_token;
  const auto second = world.BodyOf<ListSamplesReply>(world.Call(list));
  CHECK(second.sample_ids == std::vector<std::string>{"s3"});
  CHECK(second.next_page_token.empty());
}

TEST_CASE("a redistribution moves what is missing, all or nothing", "[core]") {
  CoreWorld world;
  JoinFour(world);
  Put(world, "a0", {Sample("s1", "prompt"), Sample("s2", "prompt")});
  Put(world, "a1", {Sample("s3", "prompt")});
  const Pattern pattern =
      GENERATE(Pattern::kDirect, Pattern::kGatherScatter, Pattern::kBroadcast);
  CAPTURE(static_cast<int>(pattern));
  world.Agent("a3").Mute<CommitCommand>();
  const CallId call =
      world.Call(Want({"a2", "a3"}, {"s1", "s2", "s3"}, pattern));
  // Locations change where the agent has committed, not before.
  CHECK(absl::c_count(HoldersOf(world, "s1"), "a2") == 1);
  CHECK(absl::c_count(HoldersOf(world, "s1"), "a3") == 0);
  world.Agent("a3").Unmute<CommitCommand>();
  world.Disconnect("a3");
  world.Connect("a3");
  REQUIRE_OK(world.StatusOf(call));
  for (const char* id : {"s1", "s2", "s3"}) {
    CHECK(absl::c_count(HoldersOf(world, id), "a3") == 1);
  }
  CHECK(world.Agent("a2").samples.size() == 3);
  // Nothing to do the second time.
  const CallId again =
      world.Call(Want({"a2", "a3"}, {"s1", "s2", "s3"}, Pattern::kDirect));
  REQUIRE_OK(world.StatusOf(again));
  CHECK(world.UpdatesOf(again).back().result->certificate.num_transfers == 0);
}

TEST_CASE("a redistribution that fails changes no location", "[core]") {
  CoreWorld world;
  JoinFour(world);
  Put(world, "a0", {Sample("s1", "prompt")});
  world.Agent("a2").vote_outcome = absl::DataLossError("s1/prompt");
  const CallId call = world.Call(Want({"a1", "a2"}, {"s1"}));
  CHECK_THAT(world.StatusOf(call),
             StatusIs(absl::StatusCode::kDataLoss, "s1/prompt"));
  CHECK(HoldersOf(world, "s1") == std::vector<std::string>{"a0"});
  CHECK(world.Idle());
}

TEST_CASE("bad wants are refused", "[core]") {
  CoreWorld world;
  JoinFour(world);
  Put(world, "a0", {Sample("s1", "prompt")});
  RedistributeRequest bad = Want({"a2"}, {"s1"});
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
  std::string names;
  SECTION("no pattern") { bad.pattern = Pattern::kUnspecified; }
  SECTION("an unknown pattern") { bad.pattern = static_cast<Pattern>(17); }
  SECTION("no want") { bad.wants.clear(); }
  SECTION("a want without keys") { bad.wants[0].keys.clear(); }
  SECTION("an unknown agent") {
    bad.wants[0].agents = {"a7"};
    names = "a7";
  }
  SECTION("an unknown sample") {
    bad.wants[0].sample_ids = {"s1", "s7"};
    code = absl::StatusCode::kNotFound;
    names = "s7";
  }
  SECTION("an unknown key") {
    bad.wants[0].keys = {"advantage"};
    code = absl::StatusCode::kNotFound;
    names = "advantage";
  }
  SECTION("an agent that is suspect") {
    world.KillAgent("a2");
    code = absl::StatusCode::kUnavailable;
    names = "a2";
  }
  SECTION("samples whose only holder is suspect") {
    world.KillAgent("a0");
    code = absl::StatusCode::kUnavailable;
    names = "a0";
  }
  CHECK_THAT(world.StatusOf(world.Call(bad)), StatusIs(code, names));
}

TEST_CASE("too little memory for samples is refused before they move",
          "[core]") {
  CoreWorld world;
  world.Join("a0");
  FakeAgent& small = world.Join("a1");
  small.memory_bytes = 10;
  world.RestartAgent("a1");
  world.Advance(absl::Milliseconds(100));
  Put(world, "a0", {Sample("s1", "prompt")});  // 16 bytes
  const CallId call = world.Call(Want({"a1"}, {"s1"}));
  CHECK_THAT(world.StatusOf(call),
             StatusIs(absl::StatusCode::kResourceExhausted, "needs 16"));
  CHECK(small.Received<PrepareCommand>().empty());
}

TEST_CASE("one operation at a time moves a sample", "[core]") {
  CoreWorld world;
  JoinFour(world);
  Put(world, "a0", {Sample("s1", "prompt"), Sample("s2", "prompt")});
  for (const char* name : {"a0", "a1", "a2"}) world.Agent(name).votes = false;
  const CallId first = world.Call(Want({"a1"}, {"s1"}));
  const CallId second = world.Call(Want({"a2"}, {"s1"}));
  const CallId other = world.Call(Want({"a2"}, {"s2"}));
  CHECK(world.UpdatesOf(first).back().phase == OperationPhase::kExecuting);
  CHECK(world.UpdatesOf(second).back().phase == OperationPhase::kQueued);
  CHECK(world.UpdatesOf(other).back().phase == OperationPhase::kExecuting);
  ClearRequest clear;
  clear.sample_ids = {"s1"};
  CHECK_THAT(world.StatusOf(world.Call(clear)),
             StatusIs(absl::StatusCode::kFailedPrecondition, "s1"));
}

TEST_CASE("clearing drops everywhere or all but the owner's", "[core]") {
  CoreWorld world;
  JoinFour(world);
  Put(world, "a0", {Sample("s1", "prompt"), Sample("s2", "prompt")});
  REQUIRE_OK(world.StatusOf(world.Call(Want({"a1", "a2"}, {"s1", "s2"}))));
  ClearRequest clear;
  clear.sample_ids = {"s1", "s9"};
  CHECK_THAT(world.StatusOf(world.Call(clear)),
             StatusIs(absl::StatusCode::kNotFound, "s9"));
  CHECK(HoldersOf(world, "s1").size() == 3);  // nothing was dropped

  clear.sample_ids = {"s1"};
  clear.keep_owners = true;
  CHECK(world.BodyOf<ClearReply>(world.Call(clear)).dropped == 2);
  CHECK(HoldersOf(world, "s1") == std::vector<std::string>{"a0"});
  CHECK(world.Agent("a1").samples.size() == 1);

  clear.sample_ids = {"s1", "s2"};
  clear.keep_owners = false;
  clear.request_id = "r1";
  CHECK(world.BodyOf<ClearReply>(world.Call(clear)).dropped == 4);
  CHECK(world.Agent("a0").samples.empty());
  CHECK(world.Status().samples == 0);
  // A retry gets the first outcome, also after a restart.
  CHECK(world.BodyOf<ClearReply>(world.Call(clear)).dropped == 4);
  world.Restart();
  CHECK(world.BodyOf<ClearReply>(world.Call(clear)).dropped == 4);
}

TEST_CASE("what was cleared while an agent was away stays cleared", "[core]") {
  CoreWorld world;
  JoinFour(world);
  Put(world, "a0", {Sample("s1", "prompt")});
  REQUIRE_OK(world.StatusOf(world.Call(Want({"a1"}, {"s1"}))));
  FakeAgent& away = world.Agent("a1");
  away.running = false;
  world.Advance(absl::Seconds(11));
  REQUIRE(world.StateOf("a1") == AgentState::kLost);
  ClearRequest clear;
  clear.sample_ids = {"s1"};
  REQUIRE_OK(world.StatusOf(world.Call(clear)));
  away.running = true;
  world.Register(away);  // the same life, with the sample
  CHECK(world.Status().samples == 0);
  CHECK(away.samples.empty());
}

TEST_CASE("a lost agent's samples go to other owners or are listed", "[core]") {
  CoreWorld world;
  JoinFour(world);
  Put(world, "a0", {Sample("s1", "prompt"), Sample("s2", "prompt")});
  REQUIRE_OK(world.StatusOf(world.Call(Want({"a2"}, {"s1"}))));
  world.KillAgent("a0");
  world.Advance(absl::Seconds(5));
  CHECK(world.Status().samples == 2);  // suspect: holdings stay
  world.Advance(absl::Seconds(6));
  CHECK(HoldersOf(world, "s1") == std::vector<std::string>{"a2"});
  CHECK(world.Status().samples == 1);
  CHECK(world.HasEvent("samples_lost", "a0"));
}

TEST_CASE("planning a redistribution moves nothing", "[core]") {
  CoreWorld world;
  JoinFour(world);
  Put(world, "a0", {Sample("s1", "prompt")});
  RedistributeRequest request = Want({"a1", "a2"}, {"s1"});
  request.plan_only = true;
  const CallId call = world.Call(request);
  REQUIRE_OK(world.StatusOf(call));
  CHECK(world.BodyOf<PlanReply>(call).plan.transfers.size() == 2);
  CHECK(world.Agent("a1").Received<PrepareCommand>().empty());
}

}  // namespace
}  // namespace sluice::coordinator
