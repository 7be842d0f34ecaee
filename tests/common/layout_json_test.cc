// Layouts as JSON, and the presets on the shapes they are made for.

#include "common/layout_json.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "presets/layout_presets.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::StatusIs;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
using Variables = std::map<std::string, int64_t>;

Mesh MakeMesh(std::vector<MeshAxis> axes) {
  Mesh mesh;
  int64_t size = 1;
  for (const MeshAxis& axis : axes) size *= axis.size;
  mesh.axes = std::move(axes);
  for (int64_t i = 0; i < size; ++i) {
    mesh.ranks.push_back(Rank(static_cast<int32_t>(i)));
  }
  return mesh;
}

struct ModelShape {
  int64_t layers = 2, hidden = 1536, heads = 12, kv_heads = 2, head_dim = 128,
          intermediate = 8960, vocab = 151936;
  bool tied = true, biases = true;
};

ModelSpec MakeModel(const ModelShape& s) {
  ModelSpec model;
  model.name = "m";
  const auto add = [&model](std::string name, Shape shape) {
    model.tensors.push_back({std::move(name), DType::kBF16, std::move(shape)});
  };
  add("model.embed_tokens.weight", {s.vocab, s.hidden});
  add("model.norm.weight", {s.hidden});
  if (!s.tied) add("lm_head.weight", {s.vocab, s.hidden});
  const int64_t q = s.heads * s.head_dim;
  const int64_t kv = s.kv_heads * s.head_dim;
  for (int64_t l = 0; l < s.layers; ++l) {
    const std::string p = "model.layers." + std::to_string(l) + ".";
    add(p + "input_layernorm.weight", {s.hidden});
    add(p + "post_attention_layernorm.weight", {s.hidden});
    add(p + "self_attn.q_proj.weight", {q, s.hidden});
    add(p + "self_attn.k_proj.weight", {kv, s.hidden});
    add(p + "self_attn.v_proj.weight", {kv, s.hidden});
    if (s.biases) {
      add(p + "self_attn.q_proj.bias", {q});
      add(p + "self_attn.k_proj.bias", {kv});
      add(p + "self_attn.v_proj.bias", {kv});
    }
    add(p + "self_attn.o_proj.weight", {s.hidden, q});
    add(p + "mlp.gate_proj.weight", {s.intermediate, s.hidden});
    add(p + "mlp.up_proj.weight", {s.intermediate, s.hidden});
    add(p + "mlp.down_proj.weight", {s.hidden, s.intermediate});
  }
  return model;
}

Variables VariablesOf(const ModelShape& s) {
  return {{"hidden_size", s.hidden},
          {"num_attention_heads", s.heads},
          {"num_key_value_heads", s.kv_heads},
          {"head_dim", s.head_dim},
          {"tie_word_embeddings", s.tied ? 1 : 0}};
}

Layout Preset(const std::string& name, const Variables& variables) {
  REQUIRE_OK_AND_ASSIGN(const absl::string_view text, FindLayoutPreset(name));
  REQUIRE_OK_AND_ASSIGN(Layout layout, ResolvePreset(text, variables));
  return layout;
}

const LocalParam& ParamOf(const RankLayout& rank, const std::string& name) {
  for (const LocalParam& param : rank.params) {
    if (param.name == name) return param;
  }
  FAIL("no parameter " << name);
  return rank.params[0];
}

bool Has(const RankLayout& rank, const std::string& name) {
  return std::any_of(rank.params.begin(), rank.params.end(),
                     [&name](const LocalParam& p) { return p.name == name; });
}

TEST_CASE("a printed layout is read back the same", "[layout][json]") {
  for (const std::string& name : LayoutPresetNames()) {
    const Layout layout = Preset(name, VariablesOf({}));
    REQUIRE_OK_AND_ASSIGN(const Layout again, ParseLayout(PrintLayout(layout)));
    CHECK(again == layout);
  }
  Layout layout;
  layout.name = "x";
  layout.stage_layers = {1, 2};
  RankLayout rank;
  rank.params.push_back({"p", DType::kF32, {2, 3}, 0});
  rank.views.push_back({TensorIndex(4), Box({{1, 3}, {0, 3}}), 0, 0, {3, 1}});
  layout.explicit_ranks = {rank, {}};
  LayoutRule rule;
  rule.pattern = "a";
  rule.splits = {{1, {"t", "u"}, 2, 0, 0, {1, 2}, {}}};
  rule.fuse_index = 2;
  rule.fuse_dim = 1;
  rule.interleave = 3;
  rule.dim_order = {1, 0};
  rule.experts = {{"e"}, {3, 1}, true};
  rule.dtype = DType::kF8E4M3;
  LayoutRule flat;
  flat.pattern = "b";
  flat.splits = {{0, {"t"}, 2, 0, 0, {}, {4, 6}}};
  flat.flat = {{"s", "u"}, 8};
  layout.rules = {rule, flat};
  layout.chunk_layers = 3;
  layout.regroups = {{{"t", "u"}, {{"e", 4}, {"s", 0}}}};
  layout.expert_maps = {{2, 5, {0, 1, 0}}, {9, 1, {1}}};
  REQUIRE_OK_AND_ASSIGN(const Layout again, ParseLayout(PrintLayout(layout)));
  CHECK(again == layout);
}

TEST_CASE("explicit views may use names", "[layout][json]") {
  const ModelSpec model = MakeModel({});
  const std::string text = R"({"name": "x", "explicit_ranks": [{
      "params": [{"name": "p", "dtype": "BF16", "shape": [1536]}],
      "views": [{"tensor": "model.norm.weight", "param": "p",
                 "box": [[0, 1536]], "strides": [1]}]}]})";
  REQUIRE_OK_AND_ASSIGN(const Layout layout, ParseLayout(text, &model));
  CHECK(layout.explicit_ranks[0].views[0].tensor == TensorIndex(1));
  CHECK_THAT(ParseLayout(text), StatusIs(kInvalid, "model.norm.weight"));
}

TEST_CASE("faults in a layout file are named", "[layout][json]") {
  const auto parse = [](const std::string& rule) {
    return ParseLayout("{\"name\": \"x\", \"rules\": [" + rule + "]}");
  };
  CHECK_OK(parse(R"({"pattern": "a", "comment": "c"})"));
  CHECK_THAT(parse(R"({"pattern": "a", "fuse_indx": 1})"),
             StatusIs(kInvalid, "did you mean \"fuse_index\""));
  CHECK_THAT(parse(R"({"pattern": "a", "stage": "frist"})"),
             StatusIs(kInvalid, "frist"));
  CHECK_THAT(parse(R"({"local_name": "a"})"), StatusIs(kInvalid, "pattern"));
  CHECK_THAT(parse(R"({"pattern": "a", "splits": [{"dim": 0}]})"),
             StatusIs(kInvalid, "axes"));
  CHECK_THAT(parse(R"({"pattern": "a", "splits": {}})"),
             StatusIs(kInvalid, "splits"));
  CHECK_THAT(parse(R"({"pattern": "a", "fuse_index": 3000000000})"),
             StatusIs(kInvalid, "fuse_index"));
  CHECK_THAT(parse(R"({"pattern": "a", "interleave": "$kv"})"),
             StatusIs(kInvalid, "interleave"));
  CHECK_OK(parse(R"({"pattern": "a", "dtype": "bfloat16"})"));
  CHECK_THAT(parse(R"({"pattern": "a", "dtype": "bf17"})"),
             StatusIs(kInvalid, "bf17"));
  CHECK_THAT(parse(R"({"pattern": "a", "experts": {"axis": "e"}})"),
             StatusIs(kInvalid, "did you mean \"axes\""));
  CHECK_THAT(parse(R"({"pattern": "a", "experts": []})"),
             StatusIs(kInvalid, "experts"));
  CHECK_THAT(parse(R"({"pattern": "a", "flat": {}})"),
             StatusIs(kInvalid, "at least one"));
  CHECK_THAT(parse(R"({"pattern": "a", "flat": {"axes": ["s"], "pad": 1}})"),
             StatusIs(kInvalid, "\"pad\""));
  CHECK_THAT(parse(R"({"pattern": "a", "dim_order": [1, 2]})"),
             StatusIs(kInvalid, "dim_order"));
  CHECK_THAT(ParseLayout(R"({"name": "x", "regroups": [{"axes": ["a"]}]})"),
             StatusIs(kInvalid, "into"));
  CHECK_THAT(ParseLayout(R"({"name": "x", "regroups": [
                 {"axes": ["a"], "into": [{"name": "b"}]}]})"),
             StatusIs(kInvalid, "regroups[0], into[0]"));
  CHECK_THAT(ParseLayout(R"({"name": "x", "expert_maps": [{"slot": []}]})"),
             StatusIs(kInvalid, "slots"));
  CHECK_THAT(ParseLayout(R"({"name": "x", "chunk_layers": "2"})"),
             StatusIs(kInvalid, "chunk_layers"));
  CHECK_THAT(parse("3"), StatusIs(kInvalid, "rules[0]"));
  CHECK_THAT(ParseLayout("[]"), StatusIs(kInvalid));
  CHECK_THAT(ParseLayout("{\"name\": \"x\"} x"), StatusIs(kInvalid));
}

TEST_CASE("a preset's variables come from the model", "[layout][json]") {
  const std::string text = R"({"name": "x", "rules": [
      {"pattern": "a", "interleave": "$kv", "fuse_index": "$absent|4"},
      {"pattern": "b", "when": {"tied": 1}}]})";
  REQUIRE_OK_AND_ASSIGN(const Layout tied,
                        ResolvePreset(text, {{"kv", 2}, {"tied", 1}}));
  CHECK(tied.rules.size() == 2);
  CHECK(tied.rules[0].interleave == 2);
  CHECK(tied.rules[0].fuse_index == 4);
  REQUIRE_OK_AND_ASSIGN(const Layout untied,
                        ResolvePreset(text, {{"kv", 2}, {"tied", 0}}));
  CHECK(untied.rules.size() == 1);
  CHECK_THAT(ResolvePreset(text, {{"kvs", 2}, {"tied", 1}}),
             StatusIs(kInvalid, "did you mean \"kvs\""));
  CHECK_THAT(ResolvePreset(text, {{"kv", 2}}), StatusIs(kInvalid, "tied"));
  const std::string other = R"({"name": "x", "rules": [
      {"pattern": "a", "when": {"absent|3": 3}, "unless": {"tied|1": 0}},
      {"pattern": "b", "unless": {"kv": 2, "tied": 1}}]})";
  REQUIRE_OK_AND_ASSIGN(const Layout both,
                        ResolvePreset(other, {{"kv", 1}, {"tied", 1}}));
  CHECK(both.rules.size() == 2);
  REQUIRE_OK_AND_ASSIGN(const Layout one,
                        ResolvePreset(other, {{"kv", 2}, {"tied", 1}}));
  REQUIRE(one.rules.size() == 1);
  CHECK(one.rules[0].pattern == "a");
  CHECK_THAT(ResolvePreset(other, {{"kv", 2}}), StatusIs(kInvalid, "tied"));
  CHECK_THAT(FindLayoutPreset("megatorn"),
             StatusIs(absl::StatusCode::kNotFound, "megatorn"));
}

TEST_CASE("megatron on Qwen2.5-1.5B, pipe 2, data 2, tensor 2",
          "[layout][preset]") {
  const ModelShape shape;
  const ModelSpec model = MakeModel(shape);
  const Layout layout = Preset("megatron", VariablesOf(shape));
  const Mesh mesh = MakeMesh({{"pipe", 2}, {"data", 2}, {"tensor", 2}});
  REQUIRE_OK(CheckLayout(model, layout, mesh));
  CHECK(NumReplicas(layout, mesh) == 2);
  // Index 7: the last stage, data 1, tensor 1.
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 7));
  CHECK(ParamOf(rank, "output_layer.weight").shape == Shape{75968, 1536});
  CHECK(Has(rank, "decoder.final_layernorm.weight"));
  CHECK_FALSE(Has(rank, "embedding.word_embeddings.weight"));
  // 6 query heads and 1 KV head: (6 + 1 + 1) * 128 rows.
  const std::string layer = "decoder.layers.0.";
  CHECK(ParamOf(rank, layer + "self_attention.linear_qkv.weight").shape ==
        Shape{1024, 1536});
  CHECK(ParamOf(rank, layer + "self_attention.linear_qkv.bias").shape ==
        Shape{1024});
  CHECK(ParamOf(rank, layer + "self_attention.linear_proj.weight").shape ==
        Shape{1536, 768});
  CHECK(ParamOf(rank, layer + "mlp.linear_fc1.weight").shape ==
        Shape{8960, 1536});
  CHECK(ParamOf(rank, layer + "mlp.linear_fc2.weight").shape ==
        Shape{1536, 4480});
  CHECK_FALSE(Has(rank, "decoder.layers.1.mlp.linear_fc2.weight"));
}

TEST_CASE("vllm on Qwen2.5-1.5B, data 2, tensor 4", "[layout][preset]") {
  const ModelShape shape;
  const ModelSpec model = MakeModel(shape);
  const Layout layout = Preset("vllm", VariablesOf(shape));
  const Mesh mesh = MakeMesh({{"data", 2}, {"tensor", 4}});
  REQUIRE_OK(CheckLayout(model, layout, mesh));
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 2));
  // 3 query heads and their KV head: (3 + 1 + 1) * 128 rows.
  const std::string layer = "model.layers.1.";
  CHECK(ParamOf(rank, layer + "self_attn.qkv_proj.weight").shape ==
        Shape{640, 1536});
  CHECK(ParamOf(rank, layer + "self_attn.qkv_proj.bias").shape == Shape{640});
  CHECK(ParamOf(rank, layer + "mlp.gate_up_proj.weight").shape ==
        Shape{4480, 1536});
  CHECK(ParamOf(rank, "model.embed_tokens.weight").shape == Shape{37984, 1536});
}

TEST_CASE("megatron interleaves whole KV groups where they divide",
          "[layout][preset]") {
  ModelShape shape;
  shape.heads = 8;
  shape.kv_heads = 4;
  shape.head_dim = 2;
  const ModelSpec model = MakeModel(shape);
  const Layout layout = Preset("megatron", VariablesOf(shape));
  const Mesh mesh = MakeMesh({{"pipe", 1}, {"data", 1}, {"tensor", 2}});
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(model, layout, mesh, 1));
  // Rows of tensor rank 1, by group: q4 q5 k2 v2 | q6 q7 k3 v3, 2 rows a head.
  std::map<int64_t, std::string> rows;
  for (const View& view : rank.views) {
    const std::string& name = model.tensor(view.tensor).name;
    if (name.find("layers.0.self_attn") == std::string::npos ||
        name.find("_proj.bias") == std::string::npos) {
      continue;
    }
    rows[view.offset] = name.substr(name.find("attn.") + 5, 1) +
                        std::to_string(view.box.dim(0).lo) + "-" +
                        std::to_string(view.box.dim(0).hi);
  }
  CHECK(rows == std::map<int64_t, std::string>{{0, "q8-12"},
                                               {4, "k4-6"},
                                               {6, "v4-6"},
                                               {8, "q12-16"},
                                               {12, "k6-8"},
                                               {14, "v6-8"}});
}

TEST_CASE("presets hold for sizes that do not divide", "[layout][preset]") {
  // (heads, kv_heads, intermediate, vocab, layers, pipe, tensor)
  const auto row = GENERATE(
      table<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>({
          {12, 2, 10, 7, 3, 2, 4},
          {12, 2, 10, 7, 3, 2, 8},
          {6, 3, 5, 11, 5, 4, 4},
          {5, 5, 3, 2, 1, 3, 3},
          {3, 1, 1, 1, 2, 1, 8},
      }));
  ModelShape shape;
  shape.heads = std::get<0>(row);
  shape.kv_heads = std::get<1>(row);
  shape.intermediate = std::get<2>(row);
  shape.vocab = std::get<3>(row);
  shape.layers = std::get<4>(row);
  shape.head_dim = 3;
  shape.hidden = 4;
  shape.tied = shape.layers % 2 == 0;
  shape.biases = shape.heads != 5;
  CAPTURE(shape.heads, shape.kv_heads);
  const ModelSpec model = MakeModel(shape);
  Variables variables = VariablesOf(shape);
  const std::vector<MeshAxis> axes = {
      {"pipe", std::get<5>(row)}, {"data", 1}, {"tensor", std::get<6>(row)}};
  for (const int64_t pad : {0, 2}) {
    variables["vocab_pad_units"] = pad;
    CHECK_OK(CheckLayout(model, Preset("megatron", variables), MakeMesh(axes)));
    CHECK_OK(CheckLayout(model, Preset("vllm", variables),
                         MakeMesh({{"data", 2}, axes[2]})));
    CHECK_OK(CheckLayout(model, Preset("huggingface", variables),
                         MakeMesh({{"data", 1}})));
  }
}

TEST_CASE("an axis that a preset needs must be in the mesh",
          "[layout][preset]") {
  const Layout layout = Preset("vllm", VariablesOf({}));
  CHECK_THAT(CheckLayout(MakeModel({}), layout, MakeMesh({{"tensor", 2}})),
             StatusIs(kInvalid, "\"data\""));
}

}  // namespace
}  // namespace sluice
