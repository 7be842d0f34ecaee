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

}  // namespace
}  // namespace sluice::coordinator
