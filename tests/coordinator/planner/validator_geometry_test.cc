#include "coordinator/planner/validator_geometry.h"

#include <catch2/catch.hpp>

#include "coordinator/planner/held_geometry.h"
#include "tests/coordinator/planner/planner_builders.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::MakeMesh;
using ::sluice::testing::OneTensor;
using ::sluice::testing::SplitOf;
using ::sluice::testing::StatusIs;

TEST_CASE("a common element of two boxes is found", "[planner]") {
  const std::vector<Box> apart = {Box({{0, 4}, {0, 2}}), Box({{0, 4}, {2, 4}}),
                                  Box({{4, 8}, {0, 4}})};
  CHECK_FALSE(FindCommon(apart).has_value());
  std::vector<Box> crossing = apart;
  crossing.push_back(Box({{3, 5}, {3, 4}}));
  const auto found = FindCommon(crossing);
  REQUIRE(found.has_value());
  CHECK(found->second == 3);
  CHECK(FindCommon({Box(), Box()}).has_value());
  CHECK_FALSE(FindCommon({Box()}).has_value());
}

TEST_CASE("an uncovered part is found and is really uncovered", "[planner]") {
  const Box target({{0, 4}, {0, 4}});
  std::vector<Box> boxes = {Box({{0, 4}, {0, 2}}), Box({{0, 3}, {2, 6}})};
  CHECK(FindUncovered(target, boxes) == Box({{3, 4}, {2, 4}}));
  boxes.push_back(Box({{3, 9}, {2, 4}}));
  CHECK_FALSE(FindUncovered(target, boxes).has_value());
  CHECK(FindUncovered(target, {}) == target);
  CHECK(FindUncovered(Box(), {}) == Box());
}

TEST_CASE("what agents hold follows from their views", "[planner]") {
  const PlacementGeometry placement = {"p", SplitOf(0),
                                       MakeMesh("tensor=2", 4)};
  REQUIRE_OK_AND_ASSIGN(const HeldGeometry held,
                        HeldGeometry::Create(*OneTensor({5, 2}), placement));
  CHECK(held.MeshIndexOf(Rank(5)) == 1);
  CHECK(held.MeshIndexOf(Rank(0)) == -1);
  CHECK(held.MeshIndexOf(Rank(-1)) == -1);
  const HeldGeometry::Place place = held.PlaceOf(TensorIndex(0));
  CHECK(held.TensorsOf(place.tensor_class)[0] == TensorIndex(0));
  const auto boxes = held.BoxesOf(place.tensor_class, 1);
  REQUIRE(boxes.size() == 1);
  CHECK(boxes[0] == Box({{3, 5}, {0, 2}}));
}

TEST_CASE("an agent that holds an element in two boxes is refused",
          "[planner]") {
  auto layout = std::make_shared<Layout>();
  layout->name = "twice";
  RankLayout rank;
  for (const Box& box : {Box({{0, 3}}), Box({{2, 4}})}) {
    const auto param = static_cast<int32_t>(rank.params.size());
    rank.params.push_back(
        {param == 0 ? "a" : "b", DType::kF32, box.shape(), 0});
    rank.views.push_back({TensorIndex(0), box, param, 0, {1}});
  }
  layout->explicit_ranks = {rank};
  CHECK_THAT(HeldGeometry::Create(*OneTensor({4}),
                                  {"p", layout, MakeMesh("tensor=1", 0)}),
             StatusIs(absl::StatusCode::kInvalidArgument, "[2,4)"));
}

}  // namespace
}  // namespace sluice::coordinator
