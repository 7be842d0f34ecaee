// Experts: a second grid over the same agents, stacked and separate experts,
// slots; and stages that get chunks of layers.

#include <string>
#include <vector>

#include "common/layout.h"
#include "tests/common/layout_builders.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using namespace ::sluice::testing;  // NOLINT: builders
using ::sluice::testing::StatusIs;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// `experts` experts of up [4, 3] and down [3, 4] in each of `layers` layers.
ModelSpec ExpertModel(int layers, int experts) {
  std::vector<std::pair<std::string, Shape>> tensors;
  for (int l = 0; l < layers; ++l) {
    for (int e = 0; e < experts; ++e) {
      const std::string prefix =
          "l." + std::to_string(l) + ".e." + std::to_string(e) + ".";
      tensors.push_back({prefix + "up", {4, 3}});
      tensors.push_back({prefix + "down", {3, 4}});
    }
  }
  return MakeModel(tensors);
}

LayoutRule ExpertRuleFor(const std::string& name, std::string local_name,
                         std::vector<std::string> axes, bool stacked) {
  LayoutRule rule = MakeRule("l.{layer}.e.{expert}." + name);
  rule.local_name = std::move(local_name);
  rule.experts.axes = std::move(axes);
  rule.experts.stacked = stacked;
  return rule;
}

Layout Stacked(std::vector<std::string> axes) {
  return MakeLayout({ExpertRuleFor("up", "l.{layer}.up", axes, true),
                     ExpertRuleFor("down", "l.{layer}.down", axes, true)});
}

TEST_CASE("axes are regrouped by position", "[layout]") {
  const ModelSpec model = MakeModel({{"w", {12}}});
  Layout layout = MakeLayout({MakeRule("w", {MakeSplit(0, "e")})});
  layout.regroups = {{{"data", "tensor"}, {{"d", 0}, {"e", 3}, {"t", 2}}}};
  // Not in order of the mesh: position = data * 2 + tensor.
  const Mesh mesh = MakeMesh({{"tensor", 2}, {"data", 6}});
  CHECK_OK(CheckLayout(model, layout, mesh));
  // Index 10 = tensor 1, data 4: position 9 of 12 = d 1, e 1, t 1.
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 10));
  CHECK(rank.views[0].box == B({{4, 8}}));
  layout.replica_axes = {"d"};
  CHECK_OK(CheckLayout(model, layout, mesh));
  CHECK(NumReplicas(layout, mesh) == 2);
  CHECK(ReplicaOf(layout, mesh, 10) == 1);
  CHECK(ReplicaOf(layout, mesh, 2) == 0);
}

TEST_CASE("a regroup that does not fit is refused", "[layout]") {
  const ModelSpec model = MakeModel({{"w", {12}}});
  const Mesh mesh = MakeMesh({{"data", 6}, {"tensor", 2}});
  const auto check = [&](AxisRegroup regroup) {
    Layout layout = MakeLayout({MakeRule("w")});
    layout.regroups = {std::move(regroup)};
    return CheckLayout(model, layout, mesh);
  };
  CHECK_THAT(check({{"data"}, {{"d", 4}}}), StatusIs(kInvalid, "product 6"));
  CHECK_THAT(check({{"data"}, {{"d", 4}, {"e", 0}}}), StatusIs(kInvalid));
  CHECK_THAT(check({{"data"}, {{"d", 0}, {"e", 0}}}), StatusIs(kInvalid));
  CHECK_THAT(check({{"data"}, {{"d", -6}}}), StatusIs(kInvalid));
  CHECK_THAT(check({{"data"}, {}}), StatusIs(kInvalid));
  CHECK_THAT(check({{"dat"}, {{"d", 0}}}), StatusIs(kInvalid, "\"dat\""));
  CHECK_THAT(check({{"data", "data"}, {{"d", 0}}}), StatusIs(kInvalid));
  CHECK_THAT(check({{"data"}, {{"tensor", 0}}}), StatusIs(kInvalid, "taken"));
}

TEST_CASE("experts are dealt in blocks and stacked by slot", "[layout]") {
  const ModelSpec model = ExpertModel(1, 5);
  const Mesh mesh = MakeMesh({{"ep", 2}, {"tp", 2}});
  Layout layout = Stacked({"ep"});
  layout.rules[0].splits = {MakeSplit(0, "tp")};
  CHECK_OK(CheckLayout(model, layout, mesh));
  // ceil(5 / 2) = 3: ep 1 has experts 3 and 4; tp 1 has rows 2 and 3.
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 3));
  CHECK(FindParam(rank, "l.0.up")->shape == Shape{2, 2, 3});
  const std::vector<View> views = ViewsOf(rank, "l.0.up");
  REQUIRE(views.size() == 2);
  CHECK(model.tensor(views[1].tensor).name == "l.0.e.4.up");
  CHECK(views[1].box == B({{2, 4}, {0, 3}}));
  CHECK(views[1].offset == 6);
  CHECK(views[1].strides == std::vector<int64_t>{3, 1});
  CHECK(FindParam(rank, "l.0.down")->shape == Shape{2, 3, 4});

  layout.rules[0].experts.sizes = {1, 4};
  layout.rules[1].experts.sizes = {1, 4};
  CHECK_OK(CheckLayout(model, layout, mesh));
  REQUIRE_OK_AND_ASSIGN(const RankLayout listed,
                        ExpandLayout(model, layout, mesh, 3));
  CHECK(FindParam(listed, "l.0.up")->shape == Shape{4, 2, 3});
  layout.rules[0].experts.sizes = {1, 3};
  CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "sum 5"));
}

TEST_CASE("slices of a stack may be fused and kept transposed", "[layout]") {
  std::vector<std::pair<std::string, Shape>> tensors;
  for (int e = 0; e < 2; ++e) {
    tensors.push_back({"l.0.e." + std::to_string(e) + ".gate", {2, 3}});
    tensors.push_back({"l.0.e." + std::to_string(e) + ".up", {2, 3}});
  }
  const ModelSpec model = MakeModel(tensors);
  Layout layout = MakeLayout({ExpertRuleFor("up", "w13", {}, true),
                              ExpertRuleFor("gate", "w13", {}, true)});
  layout.rules[0].fuse_index = 1;
  layout.rules[1].fuse_index = 0;
  const Mesh mesh = MakeMesh({{"tp", 1}});
  CHECK_OK(CheckLayout(model, layout, mesh));
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 0));
  CHECK(rank.params[0].shape == Shape{2, 4, 3});
  // Expert 1: gate at 12, up after its two rows of three.
  CHECK(rank.views[2].offset == 12);
  CHECK(rank.views[3].offset == 18);

  for (LayoutRule& rule : layout.rules) rule.dim_order = {1, 0};
  CHECK_OK(CheckLayout(model, layout, mesh));
  REQUIRE_OK_AND_ASSIGN(const RankLayout turned,
                        ExpandLayout(model, layout, mesh, 0));
  CHECK(turned.params[0].shape == Shape{2, 3, 4});
  CHECK(turned.views[3].offset == 14);  // column 2 of expert 1's matrix
  CHECK(turned.views[3].strides == std::vector<int64_t>{1, 4});

  layout.rules[0].dim_order = {};
  CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "dim_order"));
}

TEST_CASE("separate experts have local numbers", "[layout]") {
  const ModelSpec model = ExpertModel(1, 4);
  const Layout layout = MakeLayout(
      {ExpertRuleFor("up", "up.{local_expert}.{expert}", {"ep"}, false),
       ExpertRuleFor("down", "", {"ep"}, false)});
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, MakeMesh({{"ep", 2}}), 1));
  CHECK(rank.params.size() == 4);
  CHECK(FindParam(rank, "up.1.3") != nullptr);
  CHECK(FindParam(rank, "l.0.e.2.down") != nullptr);
}

TEST_CASE("experts stand in the slots of their layer's map", "[layout]") {
  const ModelSpec model = ExpertModel(2, 3);
  const Mesh mesh = MakeMesh({{"ep", 2}});
  Layout layout = Stacked({"ep"});
  layout.expert_maps = {{1, 1, {2, 0, 1, 2}}};
  CHECK_OK(CheckLayout(model, layout, mesh));
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 1));
  CHECK(FindParam(rank, "l.0.up")->shape == Shape{1, 4, 3});
  const std::vector<View> views = ViewsOf(rank, "l.1.up");
  REQUIRE(views.size() == 2);
  CHECK(model.tensor(views[0].tensor).name == "l.1.e.1.up");
  CHECK(views[0].offset == 0);
  CHECK(model.tensor(views[1].tensor).name == "l.1.e.2.up");
  CHECK(views[1].offset == 12);

  const auto check = [&](std::vector<ExpertMap> maps) {
    layout.expert_maps = std::move(maps);
    return CheckLayout(model, layout, mesh);
  };
  CHECK_THAT(check({{0, 0, {0, 1, 1, 0}}}),
             StatusIs(kInvalid, "\"l.0.e.2.up\""));  // nobody has it
  CHECK_THAT(check({{0, 0, {0, 0, 1, 2}}}), StatusIs(kInvalid, "twice"));
  CHECK_THAT(check({{0, 0, {0, 1, 2, 3}}}), StatusIs(kInvalid, "expert 3"));
  CHECK_THAT(check({{0, 2, {0, 1, 2, 0}}, {1, 1, {0, 1, 2, 0}}}),
             StatusIs(kInvalid, "layer 1"));
}

TEST_CASE("expert rules that do not fit are refused", "[layout]") {
  const ModelSpec model = ExpertModel(1, 2);
  const Mesh mesh = MakeMesh({{"ep", 2}, {"tp", 2}});
  Layout layout = Stacked({"ep"});
  layout.rules[1].local_name = layout.rules[0].local_name;
  CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "fused"));
  layout = Stacked({"epp"});
  CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "\"epp\""));
  layout = Stacked({"ep"});
  layout.rules[0].experts.axes = {};
  layout.rules[0].experts.sizes = {2};
  CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "sizes"));
  layout = Stacked({"ep"});
  layout.rules[0].local_name = layout.rules[1].local_name = "x";
  layout.rules[1].experts.axes = {"tp"};
  CHECK_THAT(CheckLayout(model, layout, mesh),
             StatusIs(kInvalid, "different axes"));
  LayoutRule none = MakeRule("l.{layer}.**");
  none.experts.stacked = true;
  CHECK_THAT(CheckLayout(model, MakeLayout({none}), mesh),
             StatusIs(kInvalid, "{expert}"));
  // A stack with a slice missing: expert 1 has no "up".
  ModelSpec gap = ExpertModel(1, 3);
  gap.tensors.erase(gap.tensors.begin() + 2);
  CHECK_THAT(CheckLayout(gap, Stacked({}), mesh), StatusIs(kInvalid, "slot"));
}

TEST_CASE("classes follow the agents that hold an expert", "[layout]") {
  const ModelSpec model = ExpertModel(3, 4);
  const Mesh mesh = MakeMesh({{"tp", 2}, {"ep", 2}});
  REQUIRE_OK_AND_ASSIGN(const std::vector<TensorClass> classes,
                        ClassifyLayout(model, Stacked({"ep"}), mesh));
  REQUIRE(classes.size() == 4);  // up and down, at two positions
  CHECK(classes[2].tensors.size() == 6);
  CHECK(model.tensor(classes[2].tensors[0]).name == "l.0.e.2.up");
  const Box whole = B({{0, 4}, {0, 3}});
  CHECK(classes[2].holders ==
        std::vector<TensorClass::Holder>{{1, {whole}}, {3, {whole}}});
}

TEST_CASE("chunks of layers go round the stages", "[layout]") {
  std::vector<std::pair<std::string, Shape>> tensors;
  for (int l = 0; l < 7; ++l) {
    tensors.push_back({"l." + std::to_string(l), {1}});
  }
  const ModelSpec model = MakeModel(tensors);
  LayoutRule rule = MakeRule("l.{layer}");
  rule.stage = StageRule::kByLayer;
  rule.local_name = "{layer}.{chunk}.{chunk_layer}.{global_layer}";
  Layout layout = MakeLayout({rule});
  layout.stage_axis = "pipe";
  const Mesh mesh = MakeMesh({{"pipe", 2}});
  const auto names = [&](int64_t index) {
    REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                          ExpandLayout(model, layout, mesh, index));
    std::vector<std::string> out;
    for (const LocalParam& param : rank.params) out.push_back(param.name);
    return out;
  };
  using Names = std::vector<std::string>;
  layout.chunk_layers = 2;  // 0 1 | 2 3 | 4 5 | 6
  CHECK_OK(CheckLayout(model, layout, mesh));
  CHECK(names(0) == Names{"0.0.0.0", "1.0.1.1", "2.1.0.4", "3.1.1.5"});
  CHECK(names(1) == Names{"0.0.0.2", "1.0.1.3", "2.1.0.6"});
  layout.chunk_layers = 0;
  layout.stage_layers = {1, 3, 0, 3};  // 0 | 1 2 3 | | 4 5 6
  CHECK(names(0) == Names{"0.0.0.0"});
  CHECK(names(1) == Names{"0.0.0.1", "1.0.1.2", "2.0.2.3", "3.1.0.4", "4.1.1.5",
                          "5.1.2.6"});
  layout.stage_layers = {1, 3, 3};
  CHECK_THAT(CheckLayout(model, layout, mesh), StatusIs(kInvalid, "2 sizes"));
  layout.stage_layers = {3, 4};
  layout.chunk_layers = 1;
  CHECK_THAT(CheckLayout(model, layout, mesh),
             StatusIs(kInvalid, "chunk_layers"));
}

}  // namespace
}  // namespace sluice
