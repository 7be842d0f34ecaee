#include "tests/coordinator/planner/planner_builders.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace sluice::testing {
namespace {

DimSplit Over(int dim, int64_t unit, int64_t drivers = 0) {
  DimSplit split;
  split.dim = dim;
  split.axes = {"tensor"};
  split.unit = unit;
  split.driver_units = drivers;
  return split;
}

LayoutRule Rule(std::string pattern, StageRule stage,
                std::vector<DimSplit> splits) {
  LayoutRule rule;
  rule.pattern = std::move(pattern);
  rule.stage = stage;
  rule.splits = std::move(splits);
  return rule;
}

LayoutRule Fused(LayoutRule rule, std::string local, int index) {
  rule.local_name = std::move(local);
  rule.fuse_index = index;
  return rule;
}

// The rules of one decoder layer; heads are split in units of their width.
std::vector<LayoutRule> LayerRules(StageRule stage) {
  return {
      Rule("layers.{layer}.q", stage, {Over(0, 2)}),
      Rule("layers.{layer}.k", stage, {Over(0, 2, /*drivers=*/8)}),
      Rule("layers.{layer}.v", stage, {Over(0, 2, /*drivers=*/8)}),
      Rule("layers.{layer}.o", stage, {Over(1, 2)}),
      Rule("layers.{layer}.gate", stage, {Over(0, 1)}),
      Rule("layers.{layer}.up", stage, {Over(0, 1)}),
      Rule("layers.{layer}.down", stage, {Over(1, 1)}),
      Rule("layers.{layer}.norm1", stage, {}),
      Rule("layers.{layer}.norm2", stage, {}),
  };
}

}  // namespace

coordinator::Topology MakeTopology(std::vector<int32_t> nodes) {
  coordinator::Topology topology;
  topology.node_of_rank = std::move(nodes);
  return topology;
}

std::vector<Rank> Ranks(std::initializer_list<int32_t> ranks) {
  std::vector<Rank> out;
  for (const int32_t rank : ranks) out.emplace_back(rank);
  return out;
}

Mesh MakeMesh(absl::string_view axes, int32_t first) {
  auto parsed = ParseAxes(axes);
  SLUICE_CHECK_OK(parsed.status());
  Mesh mesh;
  mesh.axes = *std::move(parsed);
  int64_t size = 1;
  for (const MeshAxis& axis : mesh.axes) size *= axis.size;
  for (int64_t i = 0; i < size; ++i) {
    mesh.ranks.emplace_back(first + static_cast<int32_t>(i));
  }
  return mesh;
}

std::shared_ptr<const ModelSpec> TinyDecoder(int layers) {
  auto model = std::make_shared<ModelSpec>();
  model->name = "tiny";
  const auto add = [&](std::string name, Shape shape) {
    model->tensors.push_back({std::move(name), DType::kBF16, std::move(shape)});
  };
  add("embed", {64, 16});
  for (int l = 0; l < layers; ++l) {
    const std::string prefix = absl::StrCat("layers.", l, ".");
    add(prefix + "q", {16, 16});
    add(prefix + "k", {4, 16});
    add(prefix + "v", {4, 16});
    add(prefix + "o", {16, 16});
    add(prefix + "gate", {32, 16});
    add(prefix + "up", {32, 16});
    add(prefix + "down", {16, 32});
    add(prefix + "norm1", {16});
    add(prefix + "norm2", {16});
  }
  add("final_norm", {16});
  return model;
}

std::shared_ptr<const Layout> TrainerLayout() {
  auto layout = std::make_shared<Layout>();
  layout->name = "trainer";
  layout->stage_axis = "pipe";
  layout->replica_axes = {"data"};
  layout->rules = LayerRules(StageRule::kByLayer);
  layout->rules.push_back(
      Rule("embed", StageRule::kFirstAndLast, {Over(0, 1)}));
  layout->rules.back().last_stage_name = "head";
  layout->rules.push_back(Rule("final_norm", StageRule::kLast, {}));
  return layout;
}

std::shared_ptr<const Layout> EngineLayout() {
  auto layout = std::make_shared<Layout>();
  layout->name = "engine";
  layout->replica_axes = {"data"};
  layout->rules = LayerRules(StageRule::kAll);
  std::vector<LayoutRule>& rules = layout->rules;
  for (int m = 0; m < 3; ++m) {
    const auto i = static_cast<size_t>(m);
    rules[i] = Fused(rules[i], "layers.{layer}.qkv", m);
  }
  rules[4] = Fused(rules[4], "layers.{layer}.gate_up", 0);
  rules[5] = Fused(rules[5], "layers.{layer}.gate_up", 1);
  rules.push_back(Rule("embed", StageRule::kAll, {Over(0, 1)}));
  rules.push_back(Rule("final_norm", StageRule::kAll, {}));
  return layout;
}

std::shared_ptr<const ModelSpec> OneTensor(Shape shape) {
  auto model = std::make_shared<ModelSpec>();
  model->name = "one";
  model->tensors.push_back({"w", DType::kF32, std::move(shape)});
  return model;
}

std::shared_ptr<const Layout> SplitOf(int dim) {
  auto layout = std::make_shared<Layout>();
  layout->name = absl::StrCat("split", dim);
  layout->rules.push_back(Rule("*", StageRule::kAll, {}));
  if (dim >= 0) layout->rules[0].splits.push_back(Over(dim, 1));
  return layout;
}

coordinator::ReshardInput MakeReshard(std::shared_ptr<const ModelSpec> model,
                                      std::shared_ptr<const Layout> from,
                                      Mesh from_mesh,
                                      std::shared_ptr<const Layout> to,
                                      Mesh to_mesh,
                                      coordinator::Topology topology) {
  coordinator::ReshardInput input;
  input.model = std::move(model);
  input.source = {"from", std::move(from), std::move(from_mesh)};
  input.destinations.push_back({"to", std::move(to), std::move(to_mesh)});
  const int64_t replicas = NumReplicas(*input.source.layout, input.source.mesh);
  for (int64_t r = 0; r < replicas; ++r) input.source_replicas.push_back(r);
  input.topology = std::move(topology);
  return input;
}

coordinator::SampleHolding Held(std::string sample, std::string key,
                                int64_t bytes,
                                std::initializer_list<int32_t> holders) {
  coordinator::SampleHolding holding;
  holding.entry.sample_id = std::move(sample);
  holding.entry.key = std::move(key);
  holding.entry.dtype = DType::kU8;
  holding.entry.sequence_lengths = {bytes};
  holding.holders = Ranks(holders);
  holding.owner = holding.holders[0];
  return holding;
}

}  // namespace sluice::testing
