#include <catch2/catch.hpp>

#include "tests/coordinator/core/core_world.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::StatusIs;

TEST_CASE("status shows agents, models, operations and totals", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  REQUIRE_OK(world.StatusOf(StartSync(world)));
  Put(world, "a0", {Sample("s1", "prompt"), Sample("s1", "reward", 1)});
  const StatusSnapshot status = world.Status();
  CHECK(status.cluster_id == "cluster-1");
  CHECK(status.epoch == Epoch(1));
  CHECK_FALSE(status.recovering);
  REQUIRE(status.agents.size() == 4);
  CHECK(status.agents[1].name == "a1");
  CHECK(status.agents[1].node == "node-0");
  CHECK(status.agents[2].node == "node-1");
  CHECK(status.agents[0].state == AgentState::kAlive);
  CHECK(status.agents[0].sample_bytes == 16 + 4);  // 4 and 1 int32
  CHECK(status.agents[0].parameter_bytes == 2 * 512);
  CHECK(status.samples == 1);
  CHECK(status.sample_tensors == 2);

  REQUIRE(status.models.size() == 1);
  CHECK(status.models[0].version == Version(1));
  CHECK(status.models[0].tensors == 2);
  CHECK(status.models[0].bytes == 160);
  REQUIRE(status.models[0].placements.size() == 2);
  const PlacementStatus& rollout = status.models[0].placements[0];
  CHECK(rollout.placement == "rollout");
  CHECK(rollout.layout == "columns");
  CHECK(rollout.agents == std::vector<std::string>{"a2", "a3"});
  REQUIRE(rollout.replicas.size() == 2);
  CHECK(rollout.replicas[1].version == Version(1));
  CHECK(rollout.replicas[1].exceptions.empty());

  REQUIRE(status.operations.size() == 2);  // the newest first
  CHECK(status.operations[0].update.kind == OperationKind::kSync);
  CHECK(status.operations[0].update.phase == OperationPhase::kDone);
  CHECK(status.operations[0].update.result->version == Version(1));
  CHECK(status.operations[1].update.kind == OperationKind::kLoad);
  CHECK(status.total_bytes[0] == 200 + 400);  // 100 in each vote
  CHECK(status.total_seconds[0] == Approx(1.0 + 2.0));
}

TEST_CASE("status names lost agents and what they leave incomplete", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  REQUIRE_OK(world.StatusOf(StartSync(world)));
  world.KillAgent("a3");
  world.Advance(absl::Seconds(11));
  const StatusSnapshot status = world.Status();
  CHECK(status.agents[3].state == AgentState::kLost);
  const PlacementStatus& rollout = status.models[0].placements[0];
  CHECK(rollout.replicas[0].version == Version(1));
  CHECK(rollout.replicas[1].version == Version(0));
  CHECK(rollout.replicas[1].exceptions == std::vector<std::string>{"a3: lost"});
}

TEST_CASE("status tells of each agent's NCCL as it was reported last",
          "[core]") {
  CoreWorld world;
  world.Join("a0");
  RegisterAgentEvent self;
  self.name = "a1";
  self.node = "node-0";
  self.address = "a1:1";
  self.incarnation = Incarnation(7);
  self.nccl_version = 22809;
  REQUIRE_OK(world.StatusOf(world.Call(self)));
  HeartbeatEvent beat;
  beat.name = "a1";
  beat.incarnation = self.incarnation;
  beat.nccl.communicators = {
      {"g", 4, CommunicatorState::kEnding, "a member is lost"}};
  beat.nccl.num_communicators = 3;
  REQUIRE_OK(world.StatusOf(world.Call(beat)));
  const StatusSnapshot status = world.Status();
  REQUIRE(status.agents.size() == 2);
  CHECK(status.agents[0].nccl_version == 0);
  CHECK(status.agents[0].nccl == NcclReport());
  CHECK(status.agents[1].nccl_version == 22809);
  CHECK(status.agents[1].nccl == beat.nccl);
  // Another life has none of them.
  self.incarnation = Incarnation(8);
  REQUIRE_OK(world.StatusOf(world.Call(self)));
  CHECK(world.Status().agents[1].nccl == NcclReport());
}

TEST_CASE("recent operations are bounded", "[core]") {
  CoreOptions options;
  options.max_kept_operations = 3;
  CoreWorld world(options);
  MakeLoaded(world);
  for (int i = 0; i < 5; ++i) REQUIRE_OK(world.StatusOf(StartSync(world)));
  CHECK(world.Status().operations.size() == 3);
}

TEST_CASE("a watcher hears of what happens", "[core]") {
  CoreWorld world;
  const CallId watch = world.Call(WatchEventsRequest{});
  CHECK(world.ReplyTo(watch) == nullptr);
  world.Join("a0");
  REQUIRE_OK(world.StatusOf(watch));
  const auto events = world.BodyOf<WatchEventsReply>(watch).events;
  REQUIRE(!events.empty());
  CHECK(events[0].kind == "agent_joined");
  CHECK(events[0].subject == "a0");
  // The next call goes on from there.
  WatchEventsRequest next;
  next.after_revision = events.back().revision;
  const CallId later = world.Call(next);
  CHECK(world.ReplyTo(later) == nullptr);
  world.Do(CallerGoneEvent{later});
  world.KillAgent("a0");
  CHECK(world.ReplyTo(later) == nullptr);
  next.after_revision = 12345;
  CHECK_THAT(world.StatusOf(world.Call(next)),
             StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_CASE("an unknown model has no status of its own", "[core]") {
  CoreWorld world;
  GetModelRequest get;
  get.model = "critic";
  CHECK_THAT(world.StatusOf(world.Call(get)),
             StatusIs(absl::StatusCode::kNotFound, "critic"));
}

}  // namespace
}  // namespace sluice::coordinator
