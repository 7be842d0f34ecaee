#include "common/box.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <limits>
#include <optional>

namespace sluice {
namespace {

TEST_CASE("a box counts its elements and knows when it is empty") {
  CHECK(Box({{0, 4}, {8, 16}}).num_elements() == 4 * 8);
  CHECK(Box().num_elements() == 1);  // a scalar
  CHECK_FALSE(Box().empty());
  CHECK(Box({{0, 4}, {3, 3}}).empty());
  CHECK(Box({{5, 3}}).num_elements() == 0);
}

TEST_CASE("boxes intersect in their common part, or not at all") {
  const Box a({{0, 4}, {0, 8}});
  CHECK(a.Intersect(Box({{2, 6}, {4, 5}})) == Box({{2, 4}, {4, 5}}));
  CHECK(a.Intersect(Box({{4, 6}, {0, 8}})) == std::nullopt);  // only touches
  CHECK(a.Intersect(Box({{0, 4}})) == std::nullopt);          // another rank
  CHECK(Box().Intersect(Box()) == Box());
}

TEST_CASE("a box contains what lies in it and fits in what holds it") {
  const Box a({{2, 4}, {0, 8}});
  CHECK(a.Contains(Box({{3, 4}, {0, 8}})));
  CHECK_FALSE(a.Contains(Box({{1, 4}, {0, 8}})));
  CHECK(a.FitsIn({4, 8}));
  CHECK_FALSE(a.FitsIn({3, 8}));
  CHECK_FALSE(a.FitsIn({4}));
  CHECK_FALSE(Box({{-1, 2}}).FitsIn({4}));
  CHECK_FALSE(Box({{3, 2}}).FitsIn({4}));
}

TEST_CASE("element counts refuse negative and overflowing shapes") {
  CHECK(NumElements({3, 4}) == 12);
  CHECK(NumElements({}) == 1);
  CHECK(NumElements({0, 7}) == 0);
  CHECK(NumElements({-1, 7}) == std::nullopt);
  const int64_t big = std::numeric_limits<int64_t>::max() / 2;
  CHECK(NumElements({big, 3}) == std::nullopt);
}

TEST_CASE("row-major strides count the elements of the dimensions behind") {
  CHECK(RowMajorStrides({2, 3, 4}) == std::vector<int64_t>{12, 4, 1});
  CHECK(RowMajorStrides({}).empty());
}

TEST_CASE("a box prints as half-open intervals") {
  CHECK(Box({{0, 4}, {8, 16}}).ToString() == "[0,4)x[8,16)");
  CHECK(Box().ToString() == "[]");
}

}  // namespace
}  // namespace sluice
