#include "common/mesh.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::StatusIs;

Mesh PipeDataTensor() {
  Mesh mesh;
  mesh.axes = {{"pipe", 2}, {"data", 2}, {"tensor", 2}};
  for (int32_t r = 0; r < 8; ++r) mesh.ranks.push_back(Rank(r + 10));
  return mesh;
}

TEST_CASE("the last axis of a mesh varies fastest") {
  const Mesh mesh = PipeDataTensor();
  CHECK(mesh.Coordinates(5) == std::vector<int64_t>{1, 0, 1});
  CHECK(mesh.IndexOf({1, 0, 1}) == 5);
  CHECK(mesh.Coordinate(6, "data") == 1);
  CHECK(mesh.Coordinate(6, "expert") == 0);  // a missing axis counts as 1
  for (int64_t i = 0; i < mesh.size(); ++i) {
    CHECK(mesh.IndexOf(mesh.Coordinates(i)) == i);
  }
}

TEST_CASE("a position over several axes is row-major in their order") {
  const Mesh mesh = PipeDataTensor();
  // index 5 = pipe 1, data 0, tensor 1
  CHECK(mesh.PositionOver(5, {"tensor", "pipe"}) ==
        std::pair<int64_t, int64_t>(1 * 2 + 1, 4));
  CHECK(mesh.PositionOver(5, {}) == std::pair<int64_t, int64_t>(0, 1));
}

TEST_CASE("a bad mesh is refused by name") {
  Mesh mesh = PipeDataTensor();
  REQUIRE(mesh.Validate().ok());
  SECTION("product unlike the agents") {
    mesh.axes[2].size = 4;
    CHECK_THAT(mesh.Validate(),
               StatusIs(absl::StatusCode::kInvalidArgument, "needs 16 agents"));
  }
  SECTION("an axis twice") {
    mesh.axes[2].name = "pipe";
    CHECK_THAT(mesh.Validate(),
               StatusIs(absl::StatusCode::kInvalidArgument, "\"pipe\""));
  }
  SECTION("a rank twice") {
    mesh.ranks[3] = mesh.ranks[4];
    CHECK_THAT(mesh.Validate(),
               StatusIs(absl::StatusCode::kInvalidArgument, "rank 14"));
  }
  SECTION("a size below one") {
    mesh.axes[0].size = 0;
    CHECK_THAT(mesh.Validate(),
               StatusIs(absl::StatusCode::kInvalidArgument, "\"pipe\""));
  }
}

TEST_CASE("axes parse from text") {
  const auto axes = ParseAxes("pipe=2,data=1,tensor=4");
  REQUIRE(axes.ok());
  CHECK(*axes ==
        std::vector<MeshAxis>{{"pipe", 2}, {"data", 1}, {"tensor", 4}});
  for (const char* bad :
       {"", "pipe", "pipe=0", "pipe=x", "=2", "a=2,a=2", "a=2,", "a=1=2"}) {
    CAPTURE(bad);
    CHECK_THAT(ParseAxes(bad).status(),
               StatusIs(absl::StatusCode::kInvalidArgument, "mesh axis"));
  }
}

}  // namespace
}  // namespace sluice
