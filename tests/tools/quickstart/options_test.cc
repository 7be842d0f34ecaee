#include "tools/quickstart/options.h"

#include <catch2/catch.hpp>

#include "tests/support/status_matchers.h"

namespace sluice::quickstart {
namespace {

using testing::StatusIs;

TEST_CASE("eight agents get the meshes of the README", "[tools][quickstart]") {
  Options options;
  REQUIRE_OK(options.Complete());
  CHECK(options.trainer_mesh == "pipe=2,data=2,tensor=2");
  CHECK(options.rollout_mesh == "data=2,tensor=4");
}

TEST_CASE("other numbers of agents get meshes that use them all",
          "[tools][quickstart]") {
  const auto [nodes, agents, trainer] = GENERATE(table<int, int, const char*>({
      {1, 1, "pipe=1,data=1,tensor=1"},
      {3, 1, "pipe=3,data=1,tensor=1"},
      {2, 3, "pipe=3,data=1,tensor=2"},
      {4, 4, "pipe=4,data=2,tensor=2"},
  }));
  Options options;
  options.nodes = nodes;
  options.agents_per_node = agents;
  REQUIRE_OK(options.Complete());
  CHECK(options.trainer_mesh == trainer);
}

TEST_CASE("axes that are not named have one position", "[tools][quickstart]") {
  Options options;
  options.trainer_mesh = "tensor=4";
  options.rollout_mesh = "tensor=5";
  REQUIRE_OK(options.Complete());
  CHECK(options.trainer_mesh == "data=1,pipe=1,tensor=4");
  CHECK(options.rollout_mesh == "data=1,tensor=5");
}

TEST_CASE("GPUs are dealt to agents in turn, or all share one",
          "[tools][quickstart]") {
  Options options;
  REQUIRE_OK(options.Complete());
  CHECK_FALSE(options.GpuOf(5, 3).has_value());
  options.device = "cuda";
  REQUIRE_OK(options.Complete());
  CHECK(options.GpuOf(0, 3) == 0);
  CHECK(options.GpuOf(5, 3) == 2);
  CHECK(options.GpuOf(7, 1) == 0);
  options.device = "cuda:6";
  REQUIRE_OK(options.Complete());
  CHECK(options.GpuOf(0, 8) == 6);
  CHECK(options.GpuOf(5, 8) == 6);
}

TEST_CASE("a device that is none is refused by name", "[tools][quickstart]") {
  Options options;
  options.device =
      GENERATE("", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:99999999999");
  CHECK_THAT(options.Complete(),
             StatusIs(absl::StatusCode::kInvalidArgument, "--device"));
}

TEST_CASE("what cannot be done is refused by name", "[tools][quickstart]") {
  Options options;
  std::string name;
  SECTION("no agents") {
    options.nodes = 0;
    name = "--nodes";
  }
  SECTION("a mesh larger than the cluster") {
    options.rollout_mesh = "data=3,tensor=4";
    name = "--rollout";
  }
  SECTION("an unknown axis") {
    options.trainer_mesh = "pipe=2,expert=4";
    name = "expert";
  }
  SECTION("no mesh at all") {
    options.trainer_mesh = "wide";
    name = "--trainer";
  }
  SECTION("no samples") {
    options.samples = 0;
    name = "--samples";
  }
  CHECK_THAT(options.Complete(),
             StatusIs(absl::StatusCode::kInvalidArgument, name));
}

}  // namespace
}  // namespace sluice::quickstart
