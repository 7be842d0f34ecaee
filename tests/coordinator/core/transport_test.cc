// What goes by NCCL between agents that all have it: parameters unless it is
// asked for otherwise, samples only where it is asked for.

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/coordinator/core/core_world.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using testing::StatusIs;

constexpr const char* kAll[] = {"a0", "a1", "a2", "a3"};

// Two nodes of two agents, each of which has NCCL and a GPU of its own.
void JoinWithNccl(CoreWorld& world) {
  for (const char* name : kAll) {
    FakeAgent& agent = world.Join(name, /*wait=*/false);
    agent.nccl_version = 22809;
    agent.nccl_device = name;
    world.RestartAgent(name);
  }
}

std::vector<MessageGroup::Member> Lives(CoreWorld& world,
                                        const std::vector<const char*>& names) {
  std::vector<MessageGroup::Member> lives;
  for (const char* name : names) {
    lives.push_back({world.Agent(name).rank, world.Agent(name).incarnation});
  }
  return lives;
}

// Of the command that an agent was prepared with last.
MessageGroup GroupOf(CoreWorld& world, const char* name) {
  const auto prepared = world.Agent(name).Received<PrepareCommand>();
  REQUIRE(!prepared.empty());
  return prepared.back().group;
}

// A sample of each node is wanted on the other.
CallId StartRedistribute(CoreWorld& world, Transport transport,
                         Pattern pattern) {
  RedistributeRequest request;
  request.wants = {{{"a2"}, {"s0"}, {"prompt"}}, {{"a0"}, {"s2"}, {"prompt"}}};
  request.pattern = pattern;
  request.options.transport = transport;
  return world.Call(request);
}

TEST_CASE("samples go by NCCL only where it is asked for", "[core]") {
  CoreWorld world;
  JoinWithNccl(world);
  Put(world, "a0", {Sample("s0", "prompt")});
  Put(world, "a2", {Sample("s2", "prompt")});
  const auto [transport, with_group] =
      GENERATE(table<Transport, bool>({{Transport::kAuto, false},
                                       {Transport::kUcx, false},
                                       {Transport::kNccl, true}}));
  const Pattern pattern = GENERATE(Pattern::kDirect, Pattern::kBroadcast);
  CAPTURE(static_cast<int>(transport), static_cast<int>(pattern));
  const CallId call = StartRedistribute(world, transport, pattern);
  REQUIRE_OK(world.StatusOf(call));
  // Bytes did cross nodes; the two agents that hold them are the members.
  CHECK(world.UpdatesOf(call).back().result->certificate.num_transfers > 0);
  for (const char* name : {"a0", "a2"}) {
    CAPTURE(name);
    CHECK(GroupOf(world, name).members ==
          (with_group ? Lives(world, {"a0", "a2"})
                      : std::vector<MessageGroup::Member>()));
  }
}

TEST_CASE("NCCL asked for samples where an agent has none is refused",
          "[core]") {
  CoreWorld world;
  JoinWithNccl(world);
  world.Agent("a2").nccl_version = 0;
  world.RestartAgent("a2");
  Put(world, "a0", {Sample("s0", "prompt")});
  Put(world, "a2", {Sample("s2", "prompt")});
  const CallId refused =
      StartRedistribute(world, Transport::kNccl, Pattern::kDirect);
  CHECK_THAT(world.StatusOf(refused),
             StatusIs(absl::StatusCode::kFailedPrecondition, "a2"));
  CHECK_OK(world.StatusOf(
      StartRedistribute(world, Transport::kAuto, Pattern::kDirect)));
}

TEST_CASE("parameters go by NCCL unless it is asked for otherwise", "[core]") {
  CoreWorld world;
  JoinWithNccl(world);
  DeclareSmall(world);
  REQUIRE_OK(world.StatusOf(StartLoad(world)));
  const auto [transport, with_group] =
      GENERATE(table<Transport, bool>({{Transport::kAuto, true},
                                       {Transport::kNccl, true},
                                       {Transport::kUcx, false}}));
  CAPTURE(static_cast<int>(transport));
  SyncRequest sync = SmallSync();
  sync.options.transport = transport;
  REQUIRE_OK(world.StatusOf(world.Call(sync)));
  for (const char* name : kAll) {
    CAPTURE(name);
    CHECK(GroupOf(world, name).members ==
          (with_group ? Lives(world, {"a0", "a1", "a2", "a3"})
                      : std::vector<MessageGroup::Member>()));
  }
}

}  // namespace
}  // namespace sluice::coordinator
