// Layout rules: what each agent holds, in derived numbers, and what is refused.

#include "common/layout.h"

#include <string>
#include <vector>

#include "common/layout_deal.h"
#include "common/layout_pattern.h"
#include "tests/common/layout_builders.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using namespace ::sluice::testing;  // NOLINT: builders
using ::sluice::testing::StatusIs;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST_CASE("a name pattern takes numbers out of a name", "[layout]") {
  REQUIRE_OK_AND_ASSIGN(const NamePattern pattern,
                        NamePattern::Parse("l.{layer}.e.{expert}.*.w"));
  CHECK(pattern.Match("l.12.e.3.up.w") == NameMatch{12, 3});
  CHECK_FALSE(pattern.Match("l.12.e.3.up.w2").has_value());
  CHECK_FALSE(pattern.Match("l.x.e.3.up.w").has_value());
  // "*" does not run over a dot.
  CHECK_FALSE(pattern.Match("l.12.e.3.up.down.w").has_value());
  REQUIRE_OK_AND_ASSIGN(const NamePattern any, NamePattern::Parse("l.**.w"));
  CHECK(any.Match("l.12.e.w").has_value());
  CHECK_FALSE(any.Match("l.w").has_value());
  CHECK_THAT(NamePattern::Parse("a.{layr}"), StatusIs(kInvalid, "layr"));
  CHECK_THAT(NamePattern::Parse("a.{layer"), StatusIs(kInvalid));
  CHECK_THAT(NamePattern::Parse(""), StatusIs(kInvalid));
}

TEST_CASE("many stars in a pattern do not explode", "[layout]") {
  REQUIRE_OK_AND_ASSIGN(const NamePattern pattern,
                        NamePattern::Parse("*a*a*a*a*a*a*a*a*a*a*b"));
  CHECK_FALSE(pattern.Match(std::string(400, 'a')).has_value());
  CHECK(pattern.Match(std::string(400, 'a') + "b").has_value());
}

TEST_CASE("units are dealt in blocks, the last shorter or empty", "[layout]") {
  // (size, unit, drivers, pad, positions) -> intervals per position.
  struct Case {
    const char* what;
    int64_t size, unit, drivers, pad;
    std::vector<Interval> held;
    int64_t padded;
  };
  const std::vector<Case> cases = {
      {"even", 8, 1, 0, 0, {{0, 4}, {4, 8}}, 0},
      {"ceil(10/4)=3", 10, 1, 0, 0, {{0, 3}, {3, 6}, {6, 9}, {9, 10}}, 0},
      {"ceil(4/3)=2, one empty", 4, 1, 0, 0, {{0, 2}, {2, 4}, {4, 4}}, 0},
      {"12 heads of 2 over 8: 2 heads each, 2 empty",
       24,
       2,
       0,
       0,
       {{0, 4},
        {4, 8},
        {8, 12},
        {12, 16},
        {16, 20},
        {20, 24},
        {24, 24},
        {24, 24}},
       0},
      {"2 KV heads of 2 follow 12 over 4: 3 query heads each",
       4,
       2,
       12,
       0,
       {{0, 2}, {0, 2}, {2, 4}, {2, 4}},
       0},
      {"2 KV heads follow 12 over 3: query heads 4-7 use both",
       2,
       1,
       12,
       0,
       {{0, 1}, {0, 2}, {1, 2}},
       0},
      {"2 KV heads follow 12 over 8: the last two hold none",
       2,
       1,
       12,
       0,
       {{0, 1}, {0, 1}, {0, 1}, {1, 2}, {1, 2}, {1, 2}, {2, 2}, {2, 2}},
       0},
      // 10 units padded to a multiple of 4*2 = 16: blocks of 8.
      {"padded", 10, 1, 0, 4, {{0, 8}, {8, 10}}, 8},
      // 3 padded to a multiple of 1*4: blocks of 1, the last all padding.
      {"padded empty", 3, 1, 0, 1, {{0, 1}, {1, 2}, {2, 3}, {3, 3}}, 1},
      {"nothing to deal", 0, 1, 0, 0, {{0, 0}, {0, 0}}, 0},
  };
  for (const Case& c : cases) {
    CAPTURE(c.what);
    DimSplit split = MakeSplit(0, "tensor", c.unit);
    split.driver_units = c.drivers;
    split.pad_units = c.pad;
    REQUIRE_OK_AND_ASSIGN(
        const DimDeal deal,
        DealDim(split, c.size, static_cast<int64_t>(c.held.size())));
    CHECK(deal.held == c.held);
    CHECK(deal.padded_extent == c.padded);
  }
}

TEST_CASE("listed sizes replace blocks and must sum up", "[layout]") {
  DimSplit split = MakeSplit(0, "tensor", /*unit=*/2);
  split.sizes = {1, 0, 3};
  REQUIRE_OK_AND_ASSIGN(const DimDeal deal, DealDim(split, 8, 3));
  CHECK(deal.held == std::vector<Interval>{{0, 2}, {2, 2}, {2, 8}});
  CHECK_THAT(DealDim(split, 10, 3), StatusIs(kInvalid, "sum 5"));
  CHECK_THAT(DealDim(split, 8, 2), StatusIs(kInvalid, "2 sizes"));
  split.sizes = {5, 0, -1};
  CHECK_THAT(DealDim(split, 8, 3), StatusIs(kInvalid));
  split.sizes.clear();
  CHECK_THAT(DealDim(split, 9, 3), StatusIs(kInvalid, "9"));
}

TEST_CASE("layers are dealt over stages with local numbers", "[layout]") {
  std::vector<std::pair<std::string, Shape>> tensors = {{"embed", {6, 2}},
                                                        {"norm", {2}}};
  for (int l = 0; l < 5; ++l) {
    tensors.push_back({"layers." + std::to_string(l) + ".w", {4, 2}});
  }
  const ModelSpec model = MakeModel(tensors);
  LayoutRule embed = MakeRule("embed", {MakeSplit(0, "tensor")});
  embed.stage = StageRule::kFirstAndLast;
  embed.local_name = "word_embeddings";
  embed.last_stage_name = "output_layer";
  LayoutRule norm = MakeRule("norm");
  norm.stage = StageRule::kLast;
  LayoutRule layer = MakeRule("layers.{layer}.w", {MakeSplit(1, "tensor")});
  layer.stage = StageRule::kByLayer;
  layer.local_name = "decoder.{layer}.w.{global_layer}";
  Layout layout = MakeLayout({embed, norm, layer});
  layout.stage_axis = "pipe";
  const Mesh mesh = MakeMesh({{"pipe", 2}, {"tensor", 2}});
  CHECK_OK(CheckLayout(model, layout, mesh));

  // ceil(5/2) = 3: stage 1 has layers 3 and 4. Index 3 = pipe 1, tensor 1.
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 3));
  std::vector<std::string> names;
  for (const LocalParam& param : rank.params) names.push_back(param.name);
  CHECK(names == std::vector<std::string>{"decoder.0.w.3", "decoder.1.w.4",
                                          "norm", "output_layer"});
  CHECK(FindParam(rank, "decoder.0.w.3")->shape == Shape{4, 1});
  const std::vector<View> views = ViewsOf(rank, "decoder.0.w.3");
  REQUIRE(views.size() == 1);
  CHECK(views[0].tensor == TensorIndex(2 + 3));
  CHECK(views[0].box == B({{0, 4}, {1, 2}}));
  CHECK(views[0].strides == std::vector<int64_t>{1, 1});
  CHECK(ViewsOf(rank, "output_layer")[0].box == B({{3, 6}, {0, 2}}));
  // Packed at 256 bytes each: sizes 8, 8, 4 and 12 bytes.
  CHECK(rank.buffer_bytes == 4 * 256);

  // On the only stage of a flat mesh the first stage's name is used.
  REQUIRE_OK_AND_ASSIGN(
      const RankLayout flat,
      ExpandLayout(model, layout, MakeMesh({{"pipe", 1}, {"tensor", 1}}), 0));
  CHECK(FindParam(flat, "word_embeddings") != nullptr);
  CHECK(FindParam(flat, "output_layer") == nullptr);

  layout.stage_layers = {1, 4};
  REQUIRE_OK_AND_ASSIGN(const RankLayout uneven,
                        ExpandLayout(model, layout, mesh, 0));
  CHECK(FindParam(uneven, "decoder.0.w.0") != nullptr);
  CHECK(FindParam(uneven, "decoder.1.w.1") == nullptr);
  layout.stage_layers = {1, 3};
  CHECK_THAT(ExpandLayout(model, layout, mesh, 0), StatusIs(kInvalid, "sum 5"));
}

TEST_CASE("fused members lie one after the other", "[layout]") {
  // q has 4 heads of 2, k has 1; over 2 positions: q 4 rows, k 2 rows each.
  const ModelSpec model = MakeModel({{"k", {2, 3}}, {"q", {8, 3}}});
  LayoutRule q = MakeRule("q", {MakeSplit(0, "tensor", 2)});
  q.local_name = "qk";
  q.fuse_index = 0;
  LayoutRule k = MakeRule("k", {MakeSplit(0, "tensor", 2)});
  k.splits[0].driver_units = 4;
  k.local_name = "qk";
  k.fuse_index = 1;
  const Layout layout = MakeLayout({k, q});
  const Mesh mesh = MakeMesh({{"tensor", 2}});
  CHECK_OK(CheckLayout(model, layout, mesh));
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 1));
  REQUIRE(rank.params.size() == 1);
  CHECK(rank.params[0].shape == Shape{6, 3});
  REQUIRE(rank.views.size() == 2);
  CHECK(rank.views[0].box == B({{0, 2}, {0, 3}}));  // k, after 4 rows of 3
  CHECK(rank.views[0].offset == 12);
  CHECK(rank.views[1].box == B({{4, 8}, {0, 3}}));
  CHECK(rank.views[1].offset == 0);
}

TEST_CASE("interleaved members lie group by group", "[layout]") {
  // 2 KV groups of 2 query heads of 1 row: q0 q1 k0 | q2 q3 k1.
  const ModelSpec model = MakeModel({{"q", {4, 5}}, {"k", {2, 5}}});
  LayoutRule q = MakeRule("q", {MakeSplit(0, "tensor")});
  q.local_name = "qk";
  q.fuse_index = 0;
  q.interleave = 2;
  LayoutRule k = q;
  k.pattern = "k";
  k.fuse_index = 1;
  k.splits[0].driver_units = 4;
  const Layout layout = MakeLayout({q, k});
  REQUIRE_OK_AND_ASSIGN(
      const RankLayout whole,
      ExpandLayout(model, layout, MakeMesh({{"tensor", 1}}), 0));
  CHECK(whole.params[0].shape == Shape{6, 5});
  REQUIRE(whole.views.size() == 4);
  CHECK(whole.views[0].box == B({{0, 2}, {0, 5}}));  // q of group 0
  CHECK(whole.views[0].offset == 0);
  CHECK(whole.views[1].box == B({{2, 4}, {0, 5}}));  // q of group 1
  CHECK(whole.views[1].offset == 3 * 5);
  CHECK(whole.views[2].offset == 2 * 5);  // k of group 0
  CHECK(whole.views[3].offset == 5 * 5);  // k of group 1

  // Over 3: ceil(4/3) = 2 query heads each, so whole groups; the last is empty.
  REQUIRE_OK_AND_ASSIGN(
      const RankLayout empty,
      ExpandLayout(model, layout, MakeMesh({{"tensor", 3}}), 2));
  CHECK(empty.params.empty());
  CHECK(empty.views.empty());

  // Over 4: half a group each, with the KV head that it uses.
  REQUIRE_OK_AND_ASSIGN(
      const RankLayout half,
      ExpandLayout(model, layout, MakeMesh({{"tensor", 4}}), 3));
  CHECK(half.params[0].shape == Shape{2, 5});
  REQUIRE(half.views.size() == 2);
  CHECK(half.views[0].box == B({{3, 4}, {0, 5}}));
  CHECK(half.views[1].box == B({{1, 2}, {0, 5}}));
  CHECK(half.views[1].offset == 5);
}

TEST_CASE("padding is local memory without a view", "[layout]") {
  const ModelSpec model = MakeModel({{"embed", {5, 3}}});
  LayoutRule rule = MakeRule("embed", {MakeSplit(0, "tensor")});
  rule.splits[0].pad_units = 4;
  const Layout layout = MakeLayout({rule});
  const Mesh mesh = MakeMesh({{"tensor", 4}});
  CHECK_OK(CheckLayout(model, layout, mesh));
  // 5 rows padded to 16: blocks of 4; the third and fourth hold padding only.
  REQUIRE_OK_AND_ASSIGN(const RankLayout second,
                        ExpandLayout(model, layout, mesh, 1));
  CHECK(second.params[0].shape == Shape{4, 3});
  REQUIRE(second.views.size() == 1);
  CHECK(second.views[0].box == B({{4, 5}, {0, 3}}));
  REQUIRE_OK_AND_ASSIGN(const RankLayout third,
                        ExpandLayout(model, layout, mesh, 2));
  CHECK(third.params.size() == 1);
  CHECK(third.views.empty());
}

TEST_CASE("a dimension may be split over several axes, the last fastest",
          "[layout]") {
  const ModelSpec model = MakeModel({{"w", {12}}});
  LayoutRule rule = MakeRule("w", {MakeSplit(0, "b")});
  rule.splits[0].axes = {"b", "a"};
  const Layout layout = MakeLayout({rule});
  const Mesh mesh = MakeMesh({{"a", 3}, {"b", 2}});
  // Index 4 = a 2, b 0: position 0 * 3 + 2 of 6, two elements each.
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 4));
  CHECK(rank.views[0].box == B({{4, 6}}));
}

TEST_CASE("tensors held alike make one class", "[layout]") {
  std::vector<std::pair<std::string, Shape>> tensors;
  for (int l = 0; l < 4; ++l) {
    tensors.push_back({"layers." + std::to_string(l) + ".a", {4}});
    tensors.push_back({"layers." + std::to_string(l) + ".b", {4}});
  }
  const ModelSpec model = MakeModel(tensors);
  LayoutRule rule = MakeRule("layers.{layer}.*", {MakeSplit(0, "tensor")});
  rule.stage = StageRule::kByLayer;
  Layout layout = MakeLayout({rule});
  layout.stage_axis = "pipe";
  const Mesh mesh = MakeMesh({{"pipe", 2}, {"tensor", 2}});
  REQUIRE_OK_AND_ASSIGN(const std::vector<TensorClass> classes,
                        ClassifyLayout(model, layout, mesh));
  REQUIRE(classes.size() == 2);
  using Indices = std::vector<TensorIndex>;
  CHECK(classes[0].tensors == Indices{TensorIndex(0), TensorIndex(1),
                                      TensorIndex(2), TensorIndex(3)});
  using Holders = std::vector<TensorClass::Holder>;
  CHECK(classes[0].holders == Holders{{0, {B({{0, 2}})}}, {1, {B({{2, 4}})}}});
  CHECK(classes[1].holders == Holders{{2, {B({{0, 2}})}}, {3, {B({{2, 4}})}}});
  REQUIRE(classes[1].BoxesOn(3).size() == 1);
  CHECK(classes[1].BoxesOn(3)[0] == B({{2, 4}}));
  CHECK(classes[1].BoxesOn(1).empty());
}

TEST_CASE("replicas follow the replica axes", "[layout]") {
  Layout layout = MakeLayout({});
  layout.replica_axes = {"data"};
  const Mesh mesh = MakeMesh({{"pipe", 2}, {"data", 2}, {"tensor", 2}});
  CHECK(NumReplicas(layout, mesh) == 2);
  CHECK(ReplicaOf(layout, mesh, 1) == 0);
  CHECK(ReplicaOf(layout, mesh, 2) == 1);
  CHECK(ReplicaOf(layout, mesh, 5) == 0);
}

TEST_CASE("a rule that does not fit is refused by name", "[layout]") {
  const Mesh mesh = MakeMesh({{"tensor", 2}});
  const ModelSpec model = MakeModel({{"a", {4, 4}}, {"b", {4, 2}}});
  const auto expand = [&](std::vector<LayoutRule> rules) {
    return ExpandLayout(model, MakeLayout(std::move(rules)), mesh, 0);
  };
  CHECK_THAT(expand({MakeRule("a")}),
             StatusIs(kInvalid, "\"b\" matches no rule"));
  CHECK_THAT(expand({MakeRule("*"), MakeRule("a")}),
             StatusIs(kInvalid, "\"a\""));
  CHECK_THAT(expand({MakeRule("*"), MakeRule("c")}),
             StatusIs(kInvalid, "\"c\""));
  CHECK_THAT(expand({MakeRule("*", {MakeSplit(0, "tensr")})}),
             StatusIs(kInvalid, "\"tensr\""));
  CHECK_THAT(expand({MakeRule("*", {MakeSplit(0, "tensor", 3)})}),
             StatusIs(kInvalid, "unit 3"));
  CHECK_THAT(expand({MakeRule("*", {MakeSplit(2, "tensor")})}),
             StatusIs(kInvalid, "dimension 2"));
  CHECK_THAT(
      expand({MakeRule("*", {MakeSplit(0, "tensor"), MakeSplit(0, "tensor")})}),
      StatusIs(kInvalid, "twice"));
  LayoutRule optional = MakeRule("c");
  optional.optional = true;
  CHECK_OK(expand({MakeRule("*"), optional}));
  LayoutRule by_layer = MakeRule("*");
  by_layer.stage = StageRule::kByLayer;
  CHECK_THAT(expand({by_layer}), StatusIs(kInvalid, "{layer}"));

  LayoutRule same = MakeRule("*");
  same.local_name = "x";
  CHECK_THAT(expand({same}), StatusIs(kInvalid, "\"x\""));
  LayoutRule a = MakeRule("a");
  a.local_name = "x";
  a.fuse_index = 0;
  LayoutRule b = a;
  b.pattern = "b";
  b.fuse_index = 1;
  CHECK_THAT(expand({a, b}), StatusIs(kInvalid, "4 and 2"));
  b.fuse_index = 0;
  CHECK_THAT(expand({a, b}), StatusIs(kInvalid, "\"x\""));
  CHECK_THAT(ExpandLayout(model, MakeLayout({MakeRule("*")}), mesh, 2),
             StatusIs(kInvalid, "2"));
}

TEST_CASE("a hole is named with tensor, box and rank", "[layout]") {
  // Both dimensions split over one axis: only the diagonal is held.
  const ModelSpec model = MakeModel({{"w", {4, 4}}});
  const Layout layout = MakeLayout(
      {MakeRule("w", {MakeSplit(0, "tensor"), MakeSplit(1, "tensor")})});
  const absl::Status status =
      CheckLayout(model, layout, MakeMesh({{"tensor", 2}}));
  CHECK_THAT(status, StatusIs(kInvalid, "\"w\", box [0,2)x[2,4)"));
  CHECK_THAT(status, StatusIs(kInvalid, "100,101"));
}

TEST_CASE("each replica must be whole by itself", "[layout]") {
  const ModelSpec model = MakeModel({{"w", {4}}});
  Layout layout = MakeLayout({MakeRule("w", {MakeSplit(0, "data")})});
  const Mesh mesh = MakeMesh({{"data", 2}});
  CHECK_OK(CheckLayout(model, layout, mesh));
  layout.replica_axes = {"data"};
  CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "[2,4)"));
}

// One agent that holds a 4x4 tensor as given.
Layout Explicit(std::vector<View> views, Shape param_shape = {4, 4}) {
  Layout layout = MakeLayout({});
  RankLayout rank;
  rank.params.push_back({"p", DType::kBF16, std::move(param_shape), 0});
  rank.views = std::move(views);
  layout.explicit_ranks = {rank};
  return layout;
}

TEST_CASE("explicit views are checked and normalised", "[layout]") {
  const ModelSpec model = MakeModel({{"w", {4, 4}}});
  const Mesh mesh = MakeMesh({{"tensor", 1}});
  const TensorIndex w(0);
  const Box top = B({{0, 2}, {0, 4}});
  const Box bottom = B({{2, 4}, {0, 4}});
  const auto check = [&](std::vector<View> views) {
    return CheckLayout(model, Explicit(std::move(views)), mesh);
  };
  CHECK_OK(check({{w, bottom, 0, 8, {4, 1}}, {w, top, 0, 0, {4, 1}}}));
  // Transposed: element (r, c) at c * 4 + r.
  CHECK_OK(check({{w, B({{0, 4}, {0, 4}}), 0, 0, {1, 4}}}));
  CHECK_THAT(check({{w, top, 0, 0, {4, 1}}}), StatusIs(kInvalid, "[2,4)"));
  CHECK_THAT(check({{w, top, 0, 0, {4, 1}}, {w, bottom, 0, 4, {4, 1}}}),
             StatusIs(kInvalid, "rank 100"));
  // Both write the odd columns of two rows: no boxes of the parameter.
  CHECK_THAT(check({{w, B({{0, 2}, {0, 4}}), 0, 0, {8, 2}},
                    {w, B({{2, 4}, {0, 4}}), 0, 8, {-8, 2}}}),
             StatusIs(kInvalid, "share memory"));
  CHECK_OK(check({{w, B({{0, 2}, {0, 4}}), 0, 0, {8, 2}},
                  {w, B({{2, 4}, {0, 4}}), 0, 9, {-8, 2}}}));
  CHECK_THAT(check({{w, bottom, 0, 9, {4, 1}}}), StatusIs(kInvalid, "outside"));
  CHECK_THAT(check({{w, bottom, 1, 0, {4, 1}}}), StatusIs(kInvalid, "number"));
  CHECK_THAT(check({{w, bottom, 0, 0, {4}}}), StatusIs(kInvalid, "strides"));
  CHECK_THAT(check({{TensorIndex(7), bottom, 0, 0, {4, 1}}}),
             StatusIs(kInvalid, "7"));
  CHECK_THAT(check({{w, B({{0, 5}, {0, 4}}), 0, 0, {4, 1}}}),
             StatusIs(kInvalid, "outside"));
  CHECK_THAT(check({{w, top, 0, 0, {int64_t{1} << 62, 1}}}),
             StatusIs(kInvalid, "outside"));
  CHECK_THAT(CheckLayout(model, Explicit({}), MakeMesh({{"tensor", 2}})),
             StatusIs(kInvalid, "expected 2"));
  // The same element in two places of one agent.
  CHECK_THAT(CheckLayout(model,
                         Explicit({{w, B({{0, 4}, {0, 4}}), 0, 0, {4, 1}},
                                   {w, bottom, 0, 16, {4, 1}}},
                                  {6, 4}),
                         mesh),
             StatusIs(kInvalid, "twice"));

  REQUIRE_OK_AND_ASSIGN(
      const RankLayout sorted,
      ExpandLayout(
          model, Explicit({{w, bottom, 0, 8, {4, 1}}, {w, top, 0, 0, {4, 1}}}),
          mesh, 0));
  CHECK(sorted.views[0].box == top);
  CHECK(sorted.buffer_bytes == 256);
}

}  // namespace
}  // namespace sluice
