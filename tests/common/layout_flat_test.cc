// Flat shards, parts of a dimension, and the order of dimensions in memory.

#include "common/layout_flat.h"

#include <string>
#include <vector>

#include "common/layout.h"
#include "common/layout_deal.h"
#include "tests/common/layout_builders.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using namespace ::sluice::testing;  // NOLINT: builders
using ::sluice::testing::StatusIs;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST_CASE("a flat range is few boxes that follow each other", "[layout]") {
  // Every range of a 3x2x4 region: at most 2 * 3 - 1 boxes.
  const Shape shape = {3, 2, 4};
  for (int64_t lo = 0; lo <= 24; ++lo) {
    for (int64_t hi = lo; hi <= 24; ++hi) {
      CAPTURE(lo, hi);
      const std::vector<FlatPiece> pieces = CutFlatRange(shape, {lo, hi});
      CHECK(pieces.size() <= 5);
      int64_t next = lo;
      for (const FlatPiece& piece : pieces) {
        CHECK(piece.begin == next);
        CHECK(piece.box.FitsIn(shape));
        CHECK(piece.box.dim(0).lo * 8 + piece.box.dim(1).lo * 4 +
                  piece.box.dim(2).lo ==
              next);
        CHECK((piece.box.dim(0).hi - 1) * 8 + (piece.box.dim(1).hi - 1) * 4 +
                  piece.box.dim(2).hi ==
              next + piece.box.num_elements());
        next += piece.box.num_elements();
      }
      CHECK(next == hi);
    }
  }
  CHECK(CutFlatRange(shape, {1, 23}).size() == 5);
  CHECK(CutFlatRange({}, {0, 1}).size() == 1);
  CHECK(CutFlatRange({3, 0}, {0, 0}).empty());
}

LayoutRule FlatFor(std::string pattern, std::string local_name = "") {
  LayoutRule rule = MakeRule(std::move(pattern));
  rule.local_name = std::move(local_name);
  rule.flat.axes = {"shard"};
  return rule;
}

TEST_CASE("each tensor may be flat by itself", "[layout]") {
  const ModelSpec model = MakeModel({{"w", {3, 4}}, {"s", {}}});
  const Mesh mesh = MakeMesh({{"shard", 5}});
  const Layout layout = MakeLayout({FlatFor("*")});
  CHECK_OK(CheckLayout(model, layout, mesh));
  // ceil(12 / 5) = 3 elements each; the last has none of w, only padding.
  REQUIRE_OK_AND_ASSIGN(const RankLayout second,
                        ExpandLayout(model, layout, mesh, 1));
  CHECK(FindParam(second, "w")->shape == Shape{3});
  CHECK(FindParam(second, "s")->shape == Shape{1});
  const std::vector<View> views = ViewsOf(second, "w");
  REQUIRE(views.size() == 2);  // elements 3, 4 and 5
  CHECK(views[0].box == B({{0, 1}, {3, 4}}));
  CHECK(views[0].offset == 0);
  CHECK(views[1].box == B({{1, 2}, {0, 2}}));
  CHECK(views[1].offset == 1);
  CHECK(views[1].strides == std::vector<int64_t>{4, 1});
  REQUIRE_OK_AND_ASSIGN(const RankLayout last,
                        ExpandLayout(model, layout, mesh, 4));
  CHECK(FindParam(last, "w")->shape == Shape{3});
  CHECK(last.views.empty());
}

TEST_CASE("tensors of one name are joined, in order", "[layout]") {
  std::vector<std::pair<std::string, Shape>> tensors;
  for (int l = 0; l < 2; ++l) {
    const std::string prefix = "l." + std::to_string(l) + ".";
    tensors.push_back({prefix + "a", {2, 3}});
    tensors.push_back({prefix + "b", {3}});
    tensors.push_back({prefix + "c", {2, 2}});
  }
  const ModelSpec model = MakeModel(tensors);
  const Mesh mesh = MakeMesh({{"shard", 3}});
  LayoutRule first = FlatFor("l.{layer}.b", "l.{layer}.flat");
  LayoutRule others = FlatFor("l.{layer}.*", "l.{layer}.flat");
  Layout layout = MakeLayout({others});
  layout.rules[0].flat.unit = 2;
  CHECK_OK(CheckLayout(model, layout, mesh));
  // 6 + 3 + 4 = 13: ceil(13 / 3) = 5, in units of 2 = 6. The second agent has
  // elements 6 to 11: all of b, the first three of c.
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 1));
  CHECK(FindParam(rank, "l.1.flat")->shape == Shape{6});
  const std::vector<View> views = ViewsOf(rank, "l.1.flat");
  REQUIRE(views.size() == 3);
  CHECK(views[0].box == B({{0, 3}}));
  CHECK(views[0].offset == 0);
  CHECK(views[1].box == B({{0, 1}, {0, 2}}));
  CHECK(views[1].offset == 3);
  CHECK(views[2].box == B({{1, 2}, {0, 1}}));
  CHECK(views[2].offset == 5);
  REQUIRE_OK_AND_ASSIGN(const std::vector<TensorClass> classes,
                        ClassifyLayout(model, layout, mesh));
  CHECK(classes.size() == 3);  // the layers are alike

  // fuse_index comes before the order of the model.
  first.fuse_index = 0;
  others.pattern = "l.{layer}.a";
  others.fuse_index = 1;
  LayoutRule c = others;
  c.pattern = "l.{layer}.c";
  REQUIRE_OK_AND_ASSIGN(
      const RankLayout ordered,
      ExpandLayout(model, MakeLayout({first, others, c}), mesh, 0));
  REQUIRE(ViewsOf(ordered, "l.0.flat").size() == 2);
  CHECK(ViewsOf(ordered, "l.0.flat")[0].offset == 3);  // a, after b
}

TEST_CASE("what the splits leave is flattened", "[layout]") {
  const ModelSpec model = MakeModel({{"a", {4, 3}}, {"b", {2}}});
  LayoutRule a = FlatFor("a", "flat");
  a.splits = {MakeSplit(0, "tensor")};
  const Layout layout = MakeLayout({a, FlatFor("b", "flat")});
  const Mesh mesh = MakeMesh({{"tensor", 3}, {"shard", 2}});
  CHECK_OK(CheckLayout(model, layout, mesh));
  // Rows 2 and 3 with b: 8 elements, so 4 each; shard 1 has elements 4 to 7.
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 3));
  REQUIRE(rank.views.size() == 2);
  CHECK(rank.views[0].box == B({{3, 4}, {1, 3}}));
  CHECK(rank.views[0].offset == 0);
  CHECK(rank.views[1].offset == 2);
  // The third tensor rank has b alone.
  REQUIRE_OK_AND_ASSIGN(const RankLayout rest,
                        ExpandLayout(model, layout, mesh, 4));
  CHECK(rest.params[0].shape == Shape{1});
}

TEST_CASE("flat rules that do not fit are refused", "[layout]") {
  const Mesh mesh = MakeMesh({{"pipe", 2}, {"shard", 2}});
  ModelSpec model = MakeModel({{"a", {4}}, {"b", {4}}});
  const auto check = [&](LayoutRule a, LayoutRule b) {
    Layout layout = MakeLayout({std::move(a), std::move(b)});
    layout.stage_axis = "pipe";
    return CheckLayout(model, layout, mesh);
  };
  const LayoutRule a = FlatFor("a", "x");
  const LayoutRule b = FlatFor("b", "x");
  CHECK_OK(check(a, b));
  LayoutRule other = b;
  other.stage = StageRule::kLast;
  CHECK_THAT(check(a, other), StatusIs(kInvalid, "elsewhere"));
  other = b;
  other.flat.axes = {"pipe"};
  CHECK_THAT(check(a, other), StatusIs(kInvalid, "flat differs"));
  other = MakeRule("b");
  other.local_name = "x";
  CHECK_THAT(check(a, other), StatusIs(kInvalid, "flat differs"));
  other = b;
  other.splits = {MakeSplit(0, "pipe")};
  other.splits[0].pad_units = 1;
  CHECK_THAT(check(a, other), StatusIs(kInvalid, "flat excludes"));
  other = b;
  other.flat.unit = 0;
  CHECK_THAT(check(a, other), StatusIs(kInvalid, "unit"));
  model.tensors[1].dtype = DType::kF32;
  CHECK_THAT(check(a, b), StatusIs(kInvalid, "dtype"));
}

// Found by tests/fuzz: corpus/layout/flat_unit_overflows.json.
TEST_CASE("a flat unit near 2^63 is refused", "[layout]") {
  const Mesh mesh = MakeMesh({{"shard", 4}});
  const ModelSpec model = MakeModel({{"a", {4}}});
  LayoutRule rule = FlatFor("a", "x");
  rule.flat.unit = int64_t{1} << 62;
  CHECK_THAT(CheckLayout(model, MakeLayout({rule}), mesh),
             StatusIs(kInvalid, "2^32"));
}

TEST_CASE("padding that makes a local parameter overflow is refused",
          "[layout]") {
  const Mesh mesh = MakeMesh({{"tensor", 2}});
  const ModelSpec model = MakeModel({{"a", {4, 4}}});
  LayoutRule rule = MakeRule("a", {MakeSplit(0, "tensor")});
  rule.splits[0].pad_units = int64_t{1} << 60;
  CHECK_THAT(CheckLayout(model, MakeLayout({rule}), mesh),
             StatusIs(kInvalid, "too large"));
}

TEST_CASE("parts of a dimension are dealt each by itself", "[layout]") {
  // q of 4 rows, k of 2, v of 2, in heads of 1.
  const ModelSpec model = MakeModel({{"qkv", {8, 3}}});
  LayoutRule rule = MakeRule("qkv", {MakeSplit(0, "tensor")});
  rule.splits[0].parts = {4, 2, 2};
  Layout layout = MakeLayout({rule});
  const Mesh mesh = MakeMesh({{"tensor", 2}});
  CHECK_OK(CheckLayout(model, layout, mesh));
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 1));
  CHECK(rank.params[0].shape == Shape{4, 3});
  REQUIRE(rank.views.size() == 3);
  CHECK(rank.views[0].box == B({{2, 4}, {0, 3}}));
  CHECK(rank.views[0].offset == 0);
  CHECK(rank.views[1].box == B({{5, 6}, {0, 3}}));
  CHECK(rank.views[1].offset == 6);
  CHECK(rank.views[2].box == B({{7, 8}, {0, 3}}));
  CHECK(rank.views[2].offset == 9);
  REQUIRE_OK_AND_ASSIGN(const std::vector<TensorClass> classes,
                        ClassifyLayout(model, layout, mesh));
  CHECK(classes[0].BoxesOn(1).size() == 3);

  layout.rules[0].splits[0].parts = {4, 2, 1};
  CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "sum 8"));
  layout.rules[0].splits[0].parts = {4, 3, 1};
  layout.rules[0].splits[0].unit = 2;
  CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "unit 2"));
  layout.rules[0].splits[0].parts = {4, 4};
  layout.rules[0].splits[0].pad_units = 1;
  CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "exclude"));
}

TEST_CASE("a matrix may be kept transposed", "[layout]") {
  const ModelSpec model = MakeModel({{"w", {4, 3}}, {"c", {2, 3, 4}}});
  LayoutRule w = MakeRule("w", {MakeSplit(0, "tensor")});
  w.dim_order = {1, 0};
  LayoutRule c = MakeRule("c");
  c.dim_order = {2, 0, 1};
  Layout layout = MakeLayout({w, c});
  const Mesh mesh = MakeMesh({{"tensor", 2}});
  CHECK_OK(CheckLayout(model, layout, mesh));
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 1));
  CHECK(FindParam(rank, "w")->shape == Shape{3, 2});
  CHECK(ViewsOf(rank, "w")[0].box == B({{2, 4}, {0, 3}}));
  CHECK(ViewsOf(rank, "w")[0].strides == std::vector<int64_t>{1, 2});
  CHECK(FindParam(rank, "c")->shape == Shape{4, 2, 3});
  CHECK(ViewsOf(rank, "c")[0].strides == std::vector<int64_t>{3, 1, 6});
  layout.rules[0].dim_order = {1, 1};
  CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "once"));
  layout.rules[0].dim_order = {0};
  CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "\"w\""));
}

TEST_CASE("sizes of buffers follow without expanding", "[layout]") {
  const ModelSpec model = MakeModel({{"a", {40, 30}}, {"b", {7}}});
  LayoutRule a = MakeRule("a", {MakeSplit(0, "tensor")});
  const Mesh mesh = MakeMesh({{"tensor", 3}, {"shard", 2}});
  const Layout layout = MakeLayout({a, FlatFor("b")});
  REQUIRE_OK_AND_ASSIGN(const std::vector<int64_t> bytes,
                        LayoutBytesOnAll(model, layout, mesh));
  for (int64_t i = 0; i < mesh.size(); ++i) {
    REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                          ExpandLayout(model, layout, mesh, i));
    CHECK(bytes[static_cast<size_t>(i)] == rank.buffer_bytes);
  }
  CHECK(bytes[5] == 12 * 30 * 2 + 48 + 256);  // 14 rows, 14 rows, 12 rows
}

}  // namespace
}  // namespace sluice
