// Every layout preset on every model it is for, on meshes of the size such
// models run on: each passes CheckLayout, and the local parameters are those of
// the framework. Some layers stand for all, except where classes are counted.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/layout.h"
#include "common/layout_json.h"
#include "presets/layout_presets.h"
#include "presets/model_presets.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using Variables = std::map<std::string, int64_t>;

Mesh MakeMesh(const std::string& text) {
  REQUIRE_OK_AND_ASSIGN(std::vector<MeshAxis> axes, ParseAxes(text));
  Mesh mesh;
  int64_t size = 1;
  for (const MeshAxis& axis : axes) size *= axis.size;
  mesh.axes = std::move(axes);
  for (int64_t i = 0; i < size; ++i) {
    mesh.ranks.push_back(Rank(static_cast<int32_t>(i)));
  }
  return mesh;
}

struct Case {
  std::string model;
  Variables overrides;  // fewer layers
  std::string layout;
  Variables options;
  std::string mesh;
};

struct Made {
  ModelSpec model;
  Layout layout;
  Mesh mesh;
};

Made Make(const Case& c) {
  REQUIRE_OK_AND_ASSIGN(ModelPreset preset,
                        FindModelPreset(c.model, c.overrides));
  Variables variables = preset.variables;
  variables.insert(c.options.begin(), c.options.end());
  REQUIRE_OK_AND_ASSIGN(const absl::string_view text,
                        FindLayoutPreset(c.layout));
  REQUIRE_OK_AND_ASSIGN(Layout layout, ResolvePreset(text, variables));
  return {std::move(preset.model), std::move(layout), MakeMesh(c.mesh)};
}

const LocalParam& ParamOf(const RankLayout& rank, const std::string& name) {
  for (const LocalParam& param : rank.params) {
    if (param.name == name) return param;
  }
  FAIL("no parameter " << name);
  return rank.params[0];
}

RankLayout Expand(const Made& made, int64_t mesh_index) {
  REQUIRE_OK_AND_ASSIGN(RankLayout rank, ExpandLayout(made.model, made.layout,
                                                      made.mesh, mesh_index));
  return rank;
}

const Variables kFour = {{"num_hidden_layers", 4}};

const std::vector<Case> kCases = {
    {"qwen2.5-1.5b", {}, "huggingface", {}, "data=2"},
    {"qwen2.5-1.5b", {}, "megatron", {}, "pipe=2,data=2,tensor=2"},
    {"qwen2.5-1.5b", {}, "vllm", {}, "data=2,tensor=4"},
    {"qwen2.5-1.5b", {}, "fsdp", {}, "data=2,shard=8"},
    {"qwen2.5-1.5b", {}, "zero3", {}, "data=1,shard=6"},
    {"llama-3.1-405b",
     {},
     "megatron",
     {{"vocab_pad_units", 128}},
     "pipe=4,data=2,tensor=8"},
    {"llama-3.1-405b", {}, "vllm", {}, "data=2,tensor=16"},
    {"llama-3.1-405b", kFour, "fsdp", {}, "data=1,shard=512"},
    {"llama-3.1-405b", kFour, "fsdp_flat", {}, "data=1,shard=512"},
    {"llama-3.1-405b", kFour, "zero3", {}, "data=1,shard=512"},
    {"qwen3-30b-a3b",
     kFour,
     "megatron_moe",
     {{"expert_parallel", 8}},
     "pipe=2,data=4,context=1,tensor=4"},
    {"qwen3-30b-a3b",
     kFour,
     "megatron_moe",
     {{"expert_parallel", 4},
      {"expert_tensor_parallel", 2},
      {"grouped_experts", 0},
      {"chunk_layers", 1},
      {"replicas", 2}},
     "pipe=2,data=4,context=1,tensor=4"},
    {"qwen3-30b-a3b",
     kFour,
     "vllm_moe",
     {},
     "data=2,attention_data=1,tensor=8"},
    {"qwen3-30b-a3b", kFour, "fsdp", {}, "data=2,shard=32"},
    {"qwen3-30b-a3b",
     {{"num_hidden_layers", 2}},
     "fsdp_flat",
     {},
     "data=1,shard=16"},
    {"qwen3-235b-a22b",
     kFour,
     "megatron_moe",
     {{"expert_parallel", 32}},
     "pipe=4,data=8,context=2,tensor=4"},
    {"qwen3-235b-a22b",
     kFour,
     "vllm_moe",
     {{"expert_parallel", 0}},
     "data=4,attention_data=1,tensor=16"},
    {"deepseek-v3",
     {{"num_hidden_layers", 6}},
     "megatron_moe",
     {{"expert_parallel", 16}},
     "pipe=2,data=8,context=1,tensor=2"},
    {"deepseek-v3",
     {{"num_hidden_layers", 6}},
     "vllm_moe",
     {},
     "data=1,attention_data=8,tensor=4"},
    {"deepseek-v3",
     {{"num_hidden_layers", 4}},
     "vllm_moe",
     {{"expert_parallel", 0}},
     "data=2,attention_data=1,tensor=32"},
    {"deepseek-v3", {{"num_hidden_layers", 4}}, "zero3", {}, "data=1,shard=24"},
    {"kimi-k2",
     {{"num_hidden_layers", 3}},
     "megatron_moe",
     {{"expert_parallel", 32}, {"chunk_layers", 1}},
     "pipe=2,data=32,context=1,tensor=4"},
    {"kimi-k2",
     {{"num_hidden_layers", 3}},
     "vllm_moe",
     {},
     "data=2,attention_data=16,tensor=4"},
    {"qwen3.5-397b-a17b",
     {{"num_hidden_layers", 8}},
     "megatron_moe",
     {{"expert_parallel", 32}},
     "pipe=2,data=4,context=1,tensor=8"},
    {"qwen3.5-397b-a17b",
     {{"num_hidden_layers", 8}},
     "megatron_moe",
     {{"expert_parallel", 4}, {"expert_tensor_parallel", 8}},
     "pipe=2,data=4,context=1,tensor=8"},
    {"qwen3.5-397b-a17b",
     {{"num_hidden_layers", 8}},
     "vllm_moe",
     {},
     "data=2,attention_data=1,tensor=16"},
    {"qwen3.5-397b-a17b",
     {{"num_hidden_layers", 8}},
     "vllm_moe",
     {{"expert_parallel", 0}},
     "data=1,attention_data=2,tensor=8"},
};

TEST_CASE("layout presets fit the models they are for", "[presets]") {
  std::set<std::string> layouts;
  std::set<std::string> models;
  for (const Case& c : kCases) {
    CAPTURE(c.model, c.layout, c.mesh);
    const Made made = Make(c);
    CHECK_OK(CheckLayout(made.model, made.layout, made.mesh));
    layouts.insert(c.layout);
    models.insert(c.model);
  }
  // No preset is left out.
  const std::vector<std::string> all_layouts = LayoutPresetNames();
  const std::vector<std::string> all_models = ModelPresetNames();
  CHECK(layouts ==
        std::set<std::string>(all_layouts.begin(), all_layouts.end()));
  CHECK(models == std::set<std::string>(all_models.begin(), all_models.end()));
}

TEST_CASE("megatron_moe overlays the expert grid on the dense one",
          "[presets]") {
  const Made made = Make({"qwen3-30b-a3b",
                          {{"num_hidden_layers", 8}},
                          "megatron_moe",
                          {{"expert_parallel", 4},
                           {"expert_tensor_parallel", 2},
                           {"chunk_layers", 2},
                           {"replicas", 2}},
                          "pipe=2,data=4,context=1,tensor=4"});
  CHECK(NumReplicas(made.layout, made.mesh) == 2);
  // Index 16 + 13: the second stage, data 3, tensor 1; of 16 agents number 13,
  // which is expert data 1, expert 2, expert tensor 1.
  CHECK(ReplicaOf(made.layout, made.mesh, 29) == 1);
  const RankLayout rank = Expand(made, 29);
  const std::string last = "decoder.layers.3.";
  CHECK(ParamOf(rank, last + "self_attention.linear_qkv.weight").shape ==
        Shape{8 * 128 + 2 * 128, 2048});
  CHECK(ParamOf(rank, last + "mlp.experts.linear_fc1.weight").shape ==
        Shape{32, 768, 2048});
  CHECK(ParamOf(rank, last + "mlp.experts.linear_fc2.weight").shape ==
        Shape{32, 2048, 384});
  CHECK(ParamOf(rank, last + "mlp.router.weight").shape == Shape{128, 2048});
  // Chunks of 2: the second stage has layers 2, 3, 6 and 7; its third is 6.
  // Slice 5 is expert 64 + 5; the up projection lies after 384 rows of gate.
  bool found = false;
  for (const View& view : rank.views) {
    if (made.model.tensor(view.tensor).name !=
        "model.layers.6.mlp.experts.69.up_proj.weight") {
      continue;
    }
    found = true;
    CHECK(rank.params[static_cast<size_t>(view.param)].name ==
          "decoder.layers.2.mlp.experts.linear_fc1.weight");
    CHECK(view.box == Box({{384, 768}, {0, 2048}}));
    CHECK(view.offset == (5 * 768 + 384) * 2048);
    CHECK(view.strides == std::vector<int64_t>{2048, 1});
  }
  CHECK(found);
}

TEST_CASE("sequential experts are numbered on the agent", "[presets]") {
  const Made made = Make({"deepseek-v3",
                          {{"num_hidden_layers", 4}},
                          "megatron_moe",
                          {{"expert_parallel", 64}, {"grouped_experts", 0}},
                          "pipe=1,data=64,context=1,tensor=1"});
  const RankLayout rank = Expand(made, 63);
  const std::string layer = "decoder.layers.3.";
  CHECK(ParamOf(rank, layer + "mlp.experts.local_experts.3.linear_fc1.weight")
            .shape == Shape{4096, 7168});
  CHECK(ParamOf(rank, layer + "mlp.shared_experts.linear_fc1.weight").shape ==
        Shape{4096, 7168});
  CHECK(
      ParamOf(rank, layer + "self_attention.linear_kv_up_proj.weight").shape ==
      Shape{128 * 256, 512});
  CHECK(ParamOf(rank, "decoder.layers.0.mlp.linear_fc1.weight").shape ==
        Shape{36864, 7168});
}

TEST_CASE("vllm_moe stacks experts over attention data and tensor",
          "[presets]") {
  Case c = {"deepseek-v3",
            {{"num_hidden_layers", 4}},
            "vllm_moe",
            {},
            "data=1,attention_data=8,tensor=4"};
  RankLayout rank = Expand(Make(c), 5);
  const std::string layer = "model.layers.3.";
  CHECK(ParamOf(rank, layer + "mlp.experts.w13_weight").shape ==
        Shape{8, 4096, 7168});
  CHECK(ParamOf(rank, layer + "mlp.experts.w2_weight").shape ==
        Shape{8, 7168, 2048});
  CHECK(ParamOf(rank, layer + "self_attn.fused_qkv_a_proj.weight").shape ==
        Shape{1536 + 576, 7168});
  CHECK(ParamOf(rank, layer + "self_attn.q_b_proj.weight").shape ==
        Shape{32 * 192, 1536});
  CHECK(ParamOf(rank, layer + "self_attn.o_proj.weight").shape ==
        Shape{7168, 32 * 128});
  c.options = {{"expert_parallel", 0}};
  rank = Expand(Make(c), 5);
  CHECK(ParamOf(rank, layer + "mlp.experts.w13_weight").shape ==
        Shape{256, 128, 7168});
}

TEST_CASE("vllm_moe with redundant experts", "[presets]") {
  Made made = Make({"qwen3-30b-a3b",
                    {{"num_hidden_layers", 2}, {"num_experts", 8}},
                    "vllm_moe",
                    {},
                    "data=1,attention_data=1,tensor=4"});
  // 12 slots on 4 ranks; experts 0, 1, 2 and 5 stand twice, in layer 1 only.
  made.layout.expert_maps = {{1, 1, {0, 1, 2, 0, 3, 5, 4, 5, 1, 6, 7, 2}}};
  REQUIRE_OK(CheckLayout(made.model, made.layout, made.mesh));
  const RankLayout rank = Expand(made, 3);
  CHECK(ParamOf(rank, "model.layers.0.mlp.experts.w13_weight").shape ==
        Shape{2, 1536, 2048});
  CHECK(ParamOf(rank, "model.layers.1.mlp.experts.w13_weight").shape ==
        Shape{3, 1536, 2048});
  REQUIRE_OK_AND_ASSIGN(const std::vector<TensorClass> classes,
                        ClassifyLayout(made.model, made.layout, made.mesh));
  for (const TensorClass& tensors : classes) {
    for (const TensorIndex t : tensors.tensors) {
      if (made.model.tensor(t).name !=
          "model.layers.1.mlp.experts.5.down_proj.weight") {
        continue;
      }
      REQUIRE(tensors.holders.size() == 2);  // slots 5 and 7
      CHECK(tensors.holders[0].mesh_index == 1);
      CHECK(tensors.holders[1].mesh_index == 2);
    }
  }
}

TEST_CASE("flat shards of a layer are joined", "[presets]") {
  const Made made = Make({"llama-3.1-405b",
                          {{"num_hidden_layers", 2}},
                          "fsdp_flat",
                          {},
                          "data=1,shard=512"});
  const RankLayout rank = Expand(made, 511);
  // (2*16384*16384 + 2*1024*16384 + 3*53248*16384 + 2*16384) / 512
  CHECK(ParamOf(rank, "model.layers.1._flat_param").shape == Shape{6225984});
  REQUIRE_OK_AND_ASSIGN(const std::vector<TensorClass> classes,
                        ClassifyLayout(made.model, made.layout, made.mesh));
  CHECK(classes.size() == 9 + 3);  // layers are alike
}

TEST_CASE("671B over 4,096 agents makes few classes and holders", "[presets]") {
  const Made made = Make({"deepseek-v3",
                          {},
                          "megatron_moe",
                          {{"expert_parallel", 64}},
                          "pipe=16,data=64,context=1,tensor=4"});
  REQUIRE(made.mesh.size() == 4096);
  REQUIRE_OK_AND_ASSIGN(const std::vector<TensorClass> classes,
                        ClassifyLayout(made.model, made.layout, made.mesh));
  size_t holders = 0;
  size_t tensors = 0;
  for (const TensorClass& c : classes) {
    holders += c.holders.size();
    tensors += c.tensors.size();
  }
  CHECK(tensors == made.model.tensors.size());
  // By stage: 3 rules of experts at 64 positions and at most 30 others.
  CHECK(classes.size() <= 16 * (3 * 64 + 30));
  // Each agent is in one class of each rule, once or twice by layer kind.
  CHECK(holders <= 4096 * 35);
}

}  // namespace
}  // namespace sluice
