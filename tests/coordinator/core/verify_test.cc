#include <catch2/catch.hpp>

#include "common/dtype.h"
#include "coordinator/core/digest_compare.h"
#include "tests/coordinator/core/core_world.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::StatusIs;

VerifyRequest Verify(const std::string& against = "") {
  VerifyRequest request;
  request.model = "policy";
  request.placement = "rollout";
  request.against = against;
  return request;
}

TEST_CASE("replicas and placements that agree verify", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  REQUIRE_OK(world.StatusOf(StartSync(world)));
  const CallId replicas = world.Call(Verify());
  REQUIRE_OK(world.StatusOf(replicas));
  // Two tensors, held alike by both replicas.
  CHECK(world.UpdatesOf(replicas).back().result->digests_compared == 2);
  const CallId against = world.Call(Verify("trainer"));
  REQUIRE_OK(world.StatusOf(against));
  // And by sum with the trainer's rows.
  CHECK(world.UpdatesOf(against).back().result->digests_compared == 4);
  CHECK(world.Agent("a0").Received<ReadDigestsCommand>()[0].version ==
        Version(1));
}

TEST_CASE("a differing replica is named", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  REQUIRE_OK(world.StatusOf(StartSync(world)));
  SECTION("another replica") {
    world.Agent("a3").corruption = 1;
    const absl::Status status = world.StatusOf(world.Call(Verify()));
    CHECK_THAT(status, StatusIs(absl::StatusCode::kDataLoss, "\"w\""));
    CHECK_THAT(status, StatusIs(absl::StatusCode::kDataLoss, "a3"));
    CHECK_THAT(status, StatusIs(absl::StatusCode::kDataLoss, "[0,8)x[0,4)"));
  }
  SECTION("another placement") {
    world.Agent("a1").corruption = 1;
    CHECK_OK(world.StatusOf(world.Call(Verify())));
    const absl::Status status = world.StatusOf(world.Call(Verify("trainer")));
    CHECK_THAT(status, StatusIs(absl::StatusCode::kDataLoss, "\"w\""));
    CHECK_THAT(status, StatusIs(absl::StatusCode::kDataLoss, "a0, a1"));
  }
  CHECK(world.Idle());
}

TEST_CASE("placements of other types are compared as what crosses", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  RegisterPlacementRequest narrow;
  narrow.model = "policy";
  narrow.placement = "narrow";
  narrow.axes = {{"data", 1}, {"tensor", 2}};
  narrow.agents = {"a2", "a3"};
  narrow.layout = ColumnLayout();  // its first rule is of "w"
  narrow.layout.rules[0].dtype = DType::kBF16;
  REQUIRE_OK(world.StatusOf(world.Call(narrow)));
  SyncRequest sync = SmallSync("narrow");
  sync.destinations = {"narrow"};
  REQUIRE_OK(world.StatusOf(world.Call(sync)));
  VerifyRequest request = Verify("trainer");
  request.placement = "narrow";
  REQUIRE_OK(world.StatusOf(world.Call(request)));
  const std::vector<DType> types = {DType::kBF16, DType::kF32};
  for (const char* agent : {"a0", "a1", "a2", "a3"}) {
    CAPTURE(agent);
    const auto read = world.Agent(agent).Received<ReadDigestsCommand>();
    REQUIRE(read.size() == 1);
    CHECK(read[0].dtypes == types);
  }
  // Alone, and against what is held alike, as they are held.
  REQUIRE_OK(world.StatusOf(StartSync(world)));
  REQUIRE_OK(world.StatusOf(world.Call(Verify("trainer"))));
  CHECK(world.Agent("a0").Received<ReadDigestsCommand>().back().dtypes.empty());
}

TEST_CASE("what has no common version is not verified", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  CHECK_THAT(world.StatusOf(world.Call(Verify())),
             StatusIs(absl::StatusCode::kFailedPrecondition, "rollout"));
  REQUIRE_OK(world.StatusOf(StartSync(world)));
  REQUIRE_OK(world.StatusOf(StartLoad(world)));  // trainer: 2, rollout: 1
  CHECK_THAT(world.StatusOf(world.Call(Verify("trainer"))),
             StatusIs(absl::StatusCode::kFailedPrecondition, "expected 1"));
  CHECK_THAT(world.StatusOf(world.Call(Verify("rollout"))),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK_THAT(world.StatusOf(world.Call(Verify("elsewhere"))),
             StatusIs(absl::StatusCode::kNotFound, "elsewhere"));
}

TEST_CASE("an agent lost while it reads ends the verification", "[core]") {
  CoreWorld world;
  MakeLoaded(world);
  REQUIRE_OK(world.StatusOf(StartSync(world)));
  world.Agent("a3").Mute<ReadDigestsCommand>();
  const CallId call = world.Call(Verify());
  CHECK(world.ReplyTo(call) == nullptr);
  SECTION("for good") {
    world.KillAgent("a3");
    world.Advance(absl::Seconds(3));
  }
  SECTION("for a moment: digests may be missing") {
    world.Disconnect("a3");
    world.Connect("a3");
  }
  CHECK_THAT(world.StatusOf(call),
             StatusIs(absl::StatusCode::kUnavailable, "a3"));
  CHECK(world.Idle());
}

// --- comparing
// -----------------------------------------------------------------

ModelSpec OneTensor(int64_t rows) {
  ModelSpec model;
  model.name = "m";
  model.tensors = {{"kv", DType::kF32, {rows}}};
  return model;
}

// Rows [lo, hi): row i counts as 10^i, so that sums tell what is in them.
std::pair<std::pair<TensorIndex, Box>, Digest> Rows(int64_t lo, int64_t hi) {
  Digest digest;
  uint64_t power = 1;
  for (int64_t i = 0; i < hi; ++i, power *= 10) {
    if (i >= lo) digest.lane0 += power;
  }
  return {{TensorIndex(0), Box({{lo, hi}})}, digest};
}

TEST_CASE("overlapping boxes are summed over an exact cover", "[core]") {
  // As 12 query heads with 2 KV heads over 3 agents give it.
  const PlacementDigests overlapping{
      "a",
      {{"x", 0, {Rows(0, 1)}}, {"y", 0, {Rows(0, 2)}}, {"z", 0, {Rows(1, 2)}}}};
  const PlacementDigests whole{"b", {{"w", 0, {Rows(0, 2)}}}};
  int64_t compared = 0;
  CHECK_OK(ComparePlacements(OneTensor(2), {overlapping, whole}, &compared));
  CHECK(compared == 2);  // the equal box, and the sum

  PlacementDigests wrong = overlapping;
  wrong.agents[0].boxes.begin()->second.lane0 += 1;
  wrong.agents.erase(wrong.agents.begin() + 1);  // no equal box
  CHECK_THAT(ComparePlacements(OneTensor(2), {wrong, whole}, &compared),
             StatusIs(absl::StatusCode::kDataLoss, "\"kv\""));
}

TEST_CASE("boxes without an exact cover are not passed over", "[core]") {
  const PlacementDigests overlapping{
      "a", {{"x", 0, {Rows(0, 2)}}, {"y", 0, {Rows(1, 3)}}}};
  const PlacementDigests whole{"b", {{"w", 0, {Rows(0, 3)}}}};
  int64_t compared = 0;
  CHECK_THAT(ComparePlacements(OneTensor(3), {overlapping, whole}, &compared),
             StatusIs(absl::StatusCode::kUnimplemented, "\"kv\""));
  // Replicas that are laid out alike can be compared all the same.
  PlacementDigests replicas = overlapping;
  replicas.agents.push_back({"v", 1, {Rows(0, 2)}});
  replicas.agents.push_back({"u", 1, {Rows(1, 3)}});
  CHECK_OK(ComparePlacements(OneTensor(3), {replicas}, &compared));
}

TEST_CASE("missing digests are an error, members that differ too", "[core]") {
  int64_t compared = 0;
  const PlacementDigests hole{"a", {{"x", 0, {Rows(0, 2)}}}};
  CHECK_THAT(ComparePlacements(OneTensor(3), {hole}, &compared),
             StatusIs(absl::StatusCode::kInternal, "[2,3)"));
  PlacementDigests members{"a",
                           {{"x", 0, {Rows(0, 3)}}, {"y", 0, {Rows(0, 3)}}}};
  CHECK_OK(ComparePlacements(OneTensor(3), {members}, &compared));
  members.agents[1].boxes.begin()->second.lane1 = 1;
  CHECK_THAT(ComparePlacements(OneTensor(3), {members}, &compared),
             StatusIs(absl::StatusCode::kDataLoss, "\"y\""));
}

}  // namespace
}  // namespace sluice::coordinator
