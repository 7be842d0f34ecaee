// Checkpoint directories: which files, what the index may say, which model.

#include "agent/checkpoint/checkpoint.h"

#include <map>
#include <string>
#include <vector>

#include "agent/checkpoint/checkpoint_model.h"
#include "agent/checkpoint/safetensors_writer.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice::agent {
namespace {

using ::sluice::testing::StatusIs;
using ::sluice::testing::TestDir;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kNotFound = absl::StatusCode::kNotFound;

// Writes a file of U8 tensors, all zero.
void WriteFile(const TestDir& dir, const std::string& name,
               const std::vector<std::pair<std::string, Shape>>& tensors) {
  std::vector<TensorSpec> specs;
  for (const auto& [tensor, shape] : tensors) {
    specs.push_back({tensor, DType::kU8, shape});
  }
  REQUIRE_OK_AND_ASSIGN(const auto writer,
                        SafetensorsWriter::Create(dir.File(name), specs));
  for (size_t t = 0; t < specs.size(); ++t) {
    REQUIRE_OK(writer->Write(
        t, 0, std::vector<uint8_t>(static_cast<size_t>(specs[t].num_bytes()))));
  }
  REQUIRE_OK(writer->Finish());
}

void WriteIndex(const TestDir& dir, const std::string& weight_map) {
  dir.Write("model.safetensors.index.json",
            "{\"metadata\": {\"total_size\": 2}, \"weight_map\": {" +
                weight_map + "}}");
}

TEST_CASE("names are ordered as people count", "[checkpoint]") {
  CHECK(NaturalLess("l.2.w", "l.10.w"));
  CHECK_FALSE(NaturalLess("l.10.w", "l.2.w"));
  CHECK(NaturalLess("l.2.a", "l.2.b"));
  CHECK(NaturalLess("l", "l.2"));
  CHECK(NaturalLess("l.01", "l.1") != NaturalLess("l.1", "l.01"));
  CHECK_FALSE(NaturalLess("l.1", "l.1"));
}

TEST_CASE("all files of a directory are read", "[checkpoint]") {
  const TestDir dir;
  WriteFile(dir, "b.safetensors", {{"w.10", {1}}, {"w.9", {2}}});
  WriteFile(dir, "a.safetensors", {{"v", {3}}});
  REQUIRE_OK_AND_ASSIGN(const auto checkpoint, Checkpoint::Open(dir.path()));
  std::vector<std::string> names;
  for (const auto& tensor : checkpoint->tensors()) {
    names.push_back(tensor.spec.name);
  }
  CHECK(names == std::vector<std::string>{"v", "w.9", "w.10"});
  REQUIRE(checkpoint->Find("w.9") != nullptr);
  CHECK(checkpoint->Find("w.9")->data.size() == 2);
  CHECK(checkpoint->Find("x") == nullptr);
}

TEST_CASE("the index decides which files are read", "[checkpoint]") {
  const TestDir dir;
  WriteFile(dir, "a.safetensors", {{"v", {1}}});
  WriteFile(dir, "other.safetensors", {{"v", {1}}});
  CHECK_THAT(Checkpoint::Open(dir.path()), StatusIs(kInvalid, "\"v\""));
  WriteIndex(dir, "\"v\": \"a.safetensors\"");
  CHECK_OK(Checkpoint::Open(dir.path()));
}

TEST_CASE("an index that differs from the files is refused", "[checkpoint]") {
  const TestDir dir;
  WriteFile(dir, "a.safetensors", {{"v", {1}}, {"w", {1}}});
  WriteFile(dir, "b.safetensors", {{"x", {1}}});
  const auto open_with = [&dir](const std::string& weight_map) {
    WriteIndex(dir, weight_map);
    return Checkpoint::Open(dir.path());
  };
  const std::string a = "\"a.safetensors\"";
  const std::string b = "\"b.safetensors\"";
  CHECK_OK(open_with("\"v\":" + a + ",\"w\":" + a + ",\"x\":" + b));
  CHECK_THAT(open_with("\"v\":" + a + ",\"w\":" + b + ",\"x\":" + b),
             StatusIs(kInvalid, "\"w\""));
  CHECK_THAT(open_with("\"v\":" + a + ",\"x\":" + b),
             StatusIs(kInvalid, "\"w\""));
  CHECK_THAT(open_with("\"v\":" + a + ",\"w\":" + a + ",\"y\":" + b),
             StatusIs(kInvalid, "\"y\""));
  CHECK_THAT(open_with("\"v\":\"c.safetensors\""),
             StatusIs(kNotFound, "c.safetensors"));
  CHECK_THAT(open_with("\"v\":\"../a.safetensors\""),
             StatusIs(kInvalid, "\"v\""));
  CHECK_THAT(open_with("\"v\":3"), StatusIs(kInvalid, "\"v\""));
  CHECK_THAT(open_with(""), StatusIs(kInvalid, "weight_map"));
  dir.Write("model.safetensors.index.json", "{");
  CHECK_THAT(Checkpoint::Open(dir.path()), StatusIs(kInvalid, "index.json"));
}

TEST_CASE("a missing file of a series is named", "[checkpoint]") {
  const TestDir dir;
  WriteFile(dir, "model-00001-of-00003.safetensors", {{"v", {1}}});
  WriteFile(dir, "model-00003-of-00003.safetensors", {{"w", {1}}});
  CHECK_THAT(Checkpoint::Open(dir.path()),
             StatusIs(kNotFound, "model-00002-of-00003.safetensors"));
}

TEST_CASE("a directory without tensors is refused", "[checkpoint]") {
  const TestDir dir;
  CHECK_THAT(Checkpoint::Open(dir.path()), StatusIs(kNotFound, dir.path()));
  CHECK_THAT(Checkpoint::Open(dir.File("x")), StatusIs(kNotFound, "x"));
  WriteFile(dir, "model.safetensors", {{"v", {1}}});
  CHECK_OK(Checkpoint::Open(dir.path()));
  dir.Write("config.json", "[]");
  CHECK_THAT(Checkpoint::Open(dir.path()), StatusIs(kInvalid, "config.json"));
}

TEST_CASE("a model's numbers come from its configuration", "[checkpoint]") {
  const TestDir dir;
  WriteFile(dir, "model.safetensors",
            {{"model.embed_tokens.weight", {4, 2}},
             {"model.layers.0.w", {1}},
             {"model.layers.1.w", {1}}});
  dir.Write("config.json",
            R"({"hidden_size": 12, "num_attention_heads": 4, "rope": 1.5,
                "num_hidden_layers": 2, "use_cache": true, "x": "y"})");
  REQUIRE_OK_AND_ASSIGN(const CheckpointModel made,
                        ModelFromDirectory(dir.path(), "policy"));
  CHECK(made.model.name == "policy");
  CHECK(made.model.tensors.size() == 3);
  CHECK(made.model.aliases ==
        std::vector<std::pair<std::string, std::string>>{
            {"lm_head.weight", "model.embed_tokens.weight"}});
  CHECK(made.variables ==
        std::map<std::string, int64_t>{{"hidden_size", 12},
                                       {"num_attention_heads", 4},
                                       {"num_key_value_heads", 4},
                                       {"head_dim", 3},
                                       {"num_hidden_layers", 2},
                                       {"use_cache", 1},
                                       {"tie_word_embeddings", 1}});
  dir.Write("config.json", R"({"num_hidden_layers": 3})");
  CHECK_THAT(ModelFromDirectory(dir.path(), "policy"),
             StatusIs(kInvalid, "layer 2"));
}

TEST_CASE("weights are tied as the configuration says", "[checkpoint]") {
  const TestDir dir;
  WriteFile(
      dir, "model.safetensors",
      {{"lm_head.weight", {4, 2}}, {"model.embed_tokens.weight", {4, 2}}});
  const auto tensors_with = [&dir](const std::string& config) {
    dir.Write("config.json", config);
    REQUIRE_OK_AND_ASSIGN(const CheckpointModel made,
                          ModelFromDirectory(dir.path(), "m"));
    CHECK(made.variables.at("tie_word_embeddings") ==
          (made.model.aliases.empty() ? 0 : 1));
    return made.model.tensors.size();
  };
  CHECK(tensors_with("{}") == 2);
  CHECK(tensors_with("{\"tie_word_embeddings\": false}") == 2);
  CHECK(tensors_with("{\"tie_word_embeddings\": true}") == 1);

  const TestDir other;
  WriteFile(
      other, "model.safetensors",
      {{"lm_head.weight", {4, 3}}, {"model.embed_tokens.weight", {4, 2}}});
  other.Write("config.json", "{\"tie_word_embeddings\": true}");
  CHECK_THAT(ModelFromDirectory(other.path(), "m"),
             StatusIs(kInvalid, "lm_head.weight"));
}

}  // namespace
}  // namespace sluice::agent
