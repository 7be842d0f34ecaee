// Model descriptions: published parameter counts, names and shapes, bad input.

#include "presets/model_presets.h"

#include <cmath>
#include <map>
#include <string>

#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::StatusIs;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

int64_t Parameters(const ModelSpec& model) {
  int64_t count = 0;
  for (const TensorSpec& tensor : model.tensors) count += tensor.num_elements();
  return count;
}

const TensorSpec* Find(const ModelSpec& model, const std::string& name) {
  for (const TensorSpec& tensor : model.tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

TEST_CASE("models have the published number of parameters", "[presets]") {
  // Published totals, in billions:
  //  - Qwen2.5-1.5B: 1.54 (model card), the tied output layer not counted.
  //  - Qwen3-30B-A3B: 30.5 and Qwen3-235B-A22B: 235 (model cards).
  //  - Llama-3.1-405B: 405 ("The Llama 3 Herd of Models", table 3); the
  //    checkpoint has 405.85.
  //  - DeepSeek-V3: 671 (technical report, section 4.2), without the 14 of the
  //    multi-token prediction module.
  //  - Kimi-K2: 1,026, which is what the published configuration comes to (61
  //    layers, 1 dense; 384 experts of 3 x 2048 x 7168). The model card rounds
  //    it to "1T", the technical report gives 1.04T.
  //  - Qwen3.5-397B-A17B: 397 (model card), of which 0.5 are the vision tower.
  const std::map<std::string, double> published = {
      {"deepseek-v3", 671},       {"kimi-k2", 1026},
      {"llama-3.1-405b", 405},    {"qwen2.5-1.5b", 1.54},
      {"qwen3-235b-a22b", 235},   {"qwen3-30b-a3b", 30.5},
      {"qwen3.5-397b-a17b", 397},
  };
  CHECK(ModelPresetNames().size() == published.size());
  for (const std::string& name : ModelPresetNames()) {
    CAPTURE(name);
    REQUIRE(published.count(name) == 1);
    REQUIRE_OK_AND_ASSIGN(const ModelPreset preset, FindModelPreset(name));
    const double billions = static_cast<double>(Parameters(preset.model)) / 1e9;
    CAPTURE(billions);
    CHECK(std::abs(billions / published.at(name) - 1) < 0.005);
  }
}

TEST_CASE("tensors are those of the checkpoint", "[presets]") {
  REQUIRE_OK_AND_ASSIGN(const ModelPreset preset,
                        FindModelPreset("deepseek-v3"));
  const ModelSpec& model = preset.model;
  // 3 dense layers of 9 + 3 tensors, 58 of 9 + 2 + 3 + 256 * 3, and 3 more.
  CHECK(model.tensors.size() == 3 * 12 + 58 * 782 + 3);
  CHECK(model.tensors.front().name == "model.embed_tokens.weight");
  CHECK(model.tensors.back().name == "lm_head.weight");
  const TensorSpec* kv =
      Find(model, "model.layers.60.self_attn.kv_a_proj_with_mqa.weight");
  REQUIRE(kv != nullptr);
  CHECK(kv->shape == Shape{576, 7168});
  CHECK(kv->dtype == DType::kBF16);
  const TensorSpec* expert =
      Find(model, "model.layers.3.mlp.experts.255.down_proj.weight");
  REQUIRE(expert != nullptr);
  CHECK(expert->shape == Shape{7168, 2048});
  CHECK(Find(model, "model.layers.2.mlp.gate.weight") == nullptr);
  const TensorSpec* bias =
      Find(model, "model.layers.3.mlp.gate.e_score_correction_bias");
  REQUIRE(bias != nullptr);
  CHECK(bias->dtype == DType::kF32);
  CHECK(preset.variables.at("qk_head_dim") ==
        preset.variables.at("qk_nope_head_dim") +
            preset.variables.at("qk_rope_head_dim"));

  REQUIRE_OK_AND_ASSIGN(const ModelPreset hybrid,
                        FindModelPreset("qwen3.5-397b-a17b"));
  const std::string layers = "model.language_model.layers.";
  CHECK(Find(hybrid.model, layers + "7.self_attn.q_proj.weight") != nullptr);
  CHECK(Find(hybrid.model, layers + "7.linear_attn.A_log") == nullptr);
  CHECK(Find(hybrid.model, layers + "8.linear_attn.A_log") != nullptr);

  REQUIRE_OK_AND_ASSIGN(const ModelPreset tied,
                        FindModelPreset("qwen2.5-1.5b"));
  REQUIRE(tied.model.aliases.size() == 1);
  CHECK(tied.model.aliases[0].first == "lm_head.weight");
}

TEST_CASE("variables may be overridden", "[presets]") {
  REQUIRE_OK_AND_ASSIGN(
      const ModelPreset small,
      FindModelPreset("qwen3-30b-a3b",
                      {{"num_hidden_layers", 2}, {"num_experts", 4}}));
  // Each layer has 8 of attention, the router and 4 * 3 of experts.
  CHECK(small.model.tensors.size() == 2 * 21 + 3);
  CHECK(small.variables.at("num_experts") == 4);
  CHECK_THAT(FindModelPreset("qwen3-30b-a3b", {{"num_layers", 2}}),
             StatusIs(kInvalid, "num_layers"));
  CHECK_THAT(FindModelPreset("qwen4"),
             StatusIs(absl::StatusCode::kNotFound, "qwen3-30b-a3b"));
}

TEST_CASE("checkpoints in FP8 are described with their blocks where asked",
          "[presets]") {
  const auto tensor = [](const ModelPreset& preset, const std::string& name) {
    for (const TensorSpec& spec : preset.model.tensors) {
      if (spec.name == name) return spec;
    }
    FAIL("no tensor " << name);
    return TensorSpec{};
  };
  for (const char* model : {"deepseek-v3", "kimi-k2"}) {
    CAPTURE(model);
    REQUIRE_OK_AND_ASSIGN(const ModelPreset trained,
                          FindModelPreset(model, {{"num_hidden_layers", 4}}));
    REQUIRE_OK_AND_ASSIGN(
        const ModelPreset stored,
        FindModelPreset(model, {{"num_hidden_layers", 4}, {"fp8", 1}}));
    REQUIRE(trained.model.tensors.size() == stored.model.tensors.size());
    const std::string layer = "model.layers.3.";
    for (const char* name :
         {"self_attn.o_proj.weight", "mlp.experts.7.down_proj.weight",
          "mlp.shared_experts.up_proj.weight"}) {
      CHECK(tensor(trained, layer + name).dtype == DType::kBF16);
      CHECK(tensor(trained, layer + name).block.empty());
      CHECK(tensor(stored, layer + name).dtype == DType::kF8E4M3);
      CHECK(tensor(stored, layer + name).block == Shape{128, 128});
    }
    for (const std::string& name :
         {std::string("lm_head.weight"), std::string("model.norm.weight"),
          std::string("model.embed_tokens.weight"),
          layer + "mlp.gate.weight"}) {
      CHECK(tensor(stored, name) == tensor(trained, name));
    }
  }
}

TEST_CASE("faults in a model's quantisation are named", "[presets]") {
  const auto parse = [](const std::string& quantisation) {
    return ParseModelPreset(R"({"name": "m", "dtype": "BF16",
        "variables": {"q": 1}, "quantisation": )" +
                            quantisation + R"(, "tensors": [
          {"name": "a", "shape": [8, 8]}, {"name": "b", "shape": [8]}]})");
  };
  REQUIRE_OK_AND_ASSIGN(
      const ModelPreset good,
      parse(R"({"when": "q", "dtype": "F8_E4M3", "block": [4, 4]})"));
  CHECK(good.model.tensors[0].block == Shape{4, 4});
  CHECK(good.model.tensors[1].block.empty());
  CHECK_THAT(parse(R"({"when": "p", "dtype": "F8_E4M3", "block": [4, 4]})"),
             StatusIs(kInvalid, "\"p\""));
  CHECK_THAT(parse(R"({"when": "q", "dtype": "F9", "block": [4, 4]})"),
             StatusIs(kInvalid, "F9"));
  CHECK_THAT(parse(R"({"when": "q", "dtype": "F8_E4M3", "block": [4, 0]})"),
             StatusIs(kInvalid, "block"));
  CHECK_THAT(parse(R"({"when": "q", "dtype": "F8_E4M3"})"),
             StatusIs(kInvalid, "block"));
  CHECK_THAT(parse(R"({"when": "q", "dtype": "F8_E4M3", "block": [4, 4],
                       "keep": ["{"]})"),
             StatusIs(kInvalid));
}

// Found by tests/fuzz: corpus/model/step_overflows.json.
TEST_CASE("a step past the end of a repetition does not overflow",
          "[presets]") {
  REQUIRE_OK_AND_ASSIGN(const ModelPreset preset,
                        ParseModelPreset(R"({"name": "m", "dtype": "BF16",
          "variables": {"n": 9223372036854775807}, "tensors": [
              {"repeat": "i", "from": 1, "to": "n", "step": "n",
               "tensors": [{"name": "a.{i}", "shape": [1]}]}]})"));
  REQUIRE(preset.model.tensors.size() == 1);
  CHECK(preset.model.tensors[0].name == "a.1");
}

TEST_CASE("faults in a model description are named", "[presets]") {
  const auto parse = [](const std::string& tensors) {
    return ParseModelPreset(R"({"name": "m", "dtype": "BF16",
        "variables": {"h": 3}, "tensors": [)" +
                            tensors + "]}");
  };
  REQUIRE_OK_AND_ASSIGN(
      const ModelPreset good,
      parse(R"({"repeat": "i", "to": "h", "step": 2, "tensors": [
                {"name": "a.{i}", "shape": ["2*h + 1", 4]}]})"));
  REQUIRE(good.model.tensors.size() == 2);
  CHECK(good.model.tensors[1] == TensorSpec{"a.2", DType::kBF16, {7, 4}});
  CHECK_THAT(parse(R"({"name": "a", "shape": ["k"]})"),
             StatusIs(kInvalid, "\"k\""));
  CHECK_THAT(parse(R"({"name": "a", "shape": ["h*"]})"), StatusIs(kInvalid));
  CHECK_THAT(parse(R"({"name": "a.{j}", "shape": [1]})"),
             StatusIs(kInvalid, "counter"));
  CHECK_THAT(parse(R"({"name": "a", "shap": [1]})"),
             StatusIs(kInvalid, "shape"));
  CHECK_THAT(parse(R"({"name": "a", "shape": [1], "x": 1})"),
             StatusIs(kInvalid, "\"x\""));
  CHECK_THAT(parse(R"({"repeat": "i", "tensors": []})"),
             StatusIs(kInvalid, "to"));
  CHECK_THAT(parse(R"({"repeat": "i", "from": 4, "to": 3, "tensors": []})"),
             StatusIs(kInvalid, "4 to 3"));
  CHECK_THAT(parse(R"({"repeat": "i", "to": 9223372036854775807,
                       "tensors": [{"name": "a.{i}", "shape": []}]})"),
             StatusIs(kInvalid, "too many"));
  CHECK_THAT(parse(R"({"name": "a", "shape": [1]}, {"name": "a",
                       "shape": [1]})"),
             StatusIs(kInvalid, "twice"));
  CHECK_THAT(parse("7"), StatusIs(kInvalid, "tensors[0]"));
  CHECK_THAT(ParseModelPreset("{}"), StatusIs(kInvalid, "dtype"));
  CHECK_THAT(ParseModelPreset("[]"), StatusIs(kInvalid));
}

}  // namespace
}  // namespace sluice
