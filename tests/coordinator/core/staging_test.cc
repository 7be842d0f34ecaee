// Syncs that wait for staging memory.

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/coordinator/core/core_world.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using testing::StatusIs;

constexpr const char* kAll[] = {"a0", "a1", "a2", "a3"};

constexpr int64_t kMiB = 1 << 20;

// As MakeLoaded, with so much staging memory and with more placements.
void MakeTight(CoreWorld& world, int64_t staging_bytes,
               const std::vector<std::string>& more) {
  for (const char* name : kAll) {
    FakeAgent& agent = world.Join(name, /*wait=*/false);
    agent.staging_bytes = staging_bytes;
    world.RestartAgent(name);
  }
  DeclareSmall(world);
  REQUIRE_OK(world.StatusOf(StartLoad(world)));
  for (const std::string& name : more) {
    RegisterPlacementRequest other;
    other.model = "policy";
    other.placement = name;
    other.axes = {{"data", 2}, {"tensor", 1}};
    other.agents = {"a2", "a3"};
    other.layout = RowLayout();
    REQUIRE_OK(world.StatusOf(world.Call(other)));
  }
}

TEST_CASE("who waits for staging memory is served in order", "[core]") {
  CoreWorld world;
  MakeTight(world, kMiB, {"x", "y"});
  std::vector<CallId> calls;
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

TEST_CASE("a sync whose plan is known waits for staging memory, too",
          "[core]") {
  CoreWorld world;
  MakeTight(world, kMiB, {"x"});
  REQUIRE_OK(world.StatusOf(StartSync(world)));  // its plan is kept
  for (const char* name : kAll) world.Agent(name).votes = false;
  SyncRequest holder = SmallSync();
  holder.destinations = {"x"};
  const CallId holds = world.Call(holder);
  const CallId waits = StartSync(world);
  CHECK(world.UpdatesOf(holds).back().phase == OperationPhase::kExecuting);
  CHECK(world.UpdatesOf(waits).back().phase == OperationPhase::kQueued);
  world.Call(CancelRequest{{}, world.UpdatesOf(holds).back().operation});
  CHECK(world.UpdatesOf(waits).back().phase == OperationPhase::kExecuting);
}

TEST_CASE("staging memory is never promised twice", "[core]") {
  CoreWorld world;
  MakeTight(world, 3 * kMiB, {"other", "third"});
  for (const char* name : kAll) world.Agent(name).votes = false;
  SyncRequest sync = SmallSync();
  sync.options.staging_bytes = 2 * kMiB;
  const CallId first = world.Call(sync);
  CHECK(world.Agent("a2").Received<PrepareCommand>()[0].staging_bytes ==
        2 * kMiB);
  sync.destinations = {"other"};
  sync.options.staging_bytes = kMiB;  // 3 in all: just fits
  const CallId second = world.Call(sync);
  CHECK(world.UpdatesOf(second).back().phase == OperationPhase::kExecuting);
  sync.destinations = {"third"};
  sync.options.staging_bytes = 0;  // the agent's own budget
  const CallId third = world.Call(sync);
  CHECK(world.UpdatesOf(third).back().phase == OperationPhase::kPlanning);
  sync.options.staging_bytes = 4 * kMiB;
  world.Call(CancelRequest{{}, world.UpdatesOf(first).back().operation});
  CHECK_THAT(world.StatusOf(first), StatusIs(absl::StatusCode::kCancelled));
  sync.destinations = {"rollout"};
  CHECK_THAT(world.StatusOf(world.Call(sync)),
             StatusIs(absl::StatusCode::kResourceExhausted, "staging"));
}

}  // namespace
}  // namespace sluice::coordinator
