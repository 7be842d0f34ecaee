// The independent checker against the product's own layouts: they must agree on
// every byte, and the checker must notice any byte that is not as it must be.

#include "tools/checker/checker.h"

#include <catch2/catch.hpp>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "agent/checkpoint/checkpoint.h"
#include "agent/checkpoint/checkpoint_model.h"
#include "agent/checkpoint/view_loader.h"
#include "common/layout.h"
#include "common/layout_json.h"
#include "common/mesh.h"
#include "presets/layout_presets.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"
#include "tools/checker/checkpoint_bytes.h"
#include "tools/checker/expectation.h"
#include "tools/checkpoint_generator/generator.h"
#include "tools/quickstart/sign_flip.h"

namespace sluice {
namespace {

using testing::StatusIs;
using testing::TestDir;

GeneratorOptions Tiny() {
  GeneratorOptions options;
  options.layers = 3;
  options.hidden = 24;
  options.heads = 6;
  options.kv_heads = 2;
  options.head_dim = 4;
  options.intermediate = 20;
  options.vocab = 37;
  return options;
}

// A checkpoint on disk, opened by the product and by the checker.
struct Files {
  explicit Files(const GeneratorOptions& options) {
    const std::string path = dir.File("checkpoint");
    REQUIRE_OK(GenerateCheckpoint(options, path));
    auto opened = agent::Checkpoint::Open(path);
    REQUIRE_OK(opened);
    checkpoint = *std::move(opened);
    auto described = agent::ModelFromCheckpoint(*checkpoint, "policy");
    REQUIRE_OK(described);
    described_model = *std::move(described);
    auto read = checker::CheckpointBytes::Open(path);
    REQUIRE_OK(read);
    bytes = *std::move(read);
  }

  TestDir dir;
  std::unique_ptr<agent::Checkpoint> checkpoint;
  agent::CheckpointModel described_model;
  checker::CheckpointBytes bytes;
};

struct Held {
  RankLayout layout;
  std::vector<checker::HeldParam> params;
  std::vector<uint8_t> memory;

  std::byte* data() { return reinterpret_cast<std::byte*>(memory.data()); }
  int64_t size() const { return static_cast<int64_t>(memory.size()); }
};

// What the product puts into the memory of one mesh index.
Held HoldAt(const Files& files, const char* preset, const Mesh& mesh,
            int64_t index) {
  auto layout =
      ResolvePreset(*FindLayoutPreset(preset), files.described_model.variables);
  REQUIRE_OK(layout);
  auto expanded =
      ExpandLayout(files.described_model.model, *layout, mesh, index);
  REQUIRE_OK(expanded);
  Held held;
  held.layout = *std::move(expanded);
  for (const LocalParam& param : held.layout.params) {
    held.params.push_back({param.name, param.shape, param.offset_bytes});
  }
  held.memory.assign(static_cast<size_t>(held.layout.buffer_bytes), 0xee);
  REQUIRE_OK(agent::LoadViews(*files.checkpoint, files.described_model.model,
                              held.layout, absl::MakeSpan(held.memory)));
  return held;
}

Mesh MeshOf(const std::string& text) {
  Mesh mesh;
  mesh.axes = *ParseAxes(text);
  int32_t size = 1;
  for (const MeshAxis& axis : mesh.axes) {
    size *= static_cast<int32_t>(axis.size);
  }
  for (int32_t i = 0; i < size; ++i) mesh.ranks.emplace_back(i);
  return mesh;
}

checker::Expectation ExpectAt(const Files& files, const std::string& preset,
                              const Mesh& mesh, int64_t index) {
  const checker::Position at{
      mesh.Coordinate(index, "pipe"), mesh.AxisSize("pipe"),
      mesh.Coordinate(index, "tensor"), mesh.AxisSize("tensor")};
  return preset == "megatron" ? checker::ExpectMegatron(files.bytes, at)
                              : checker::ExpectVllm(files.bytes, at);
}

TEST_CASE("checker and layouts agree, also where nothing divides",
          "[tools][checker]") {
  GeneratorOptions options = Tiny();
  const bool odd_heads = GENERATE(false, true);
  const bool tied = GENERATE(false, true);
  const auto [preset, axes] = GENERATE(table<const char*, const char*>({
      {"megatron", "pipe=2,data=2,tensor=2"},
      {"megatron", "pipe=3,data=1,tensor=4"},
      {"megatron", "pipe=1,data=1,tensor=5"},
      {"vllm", "data=2,tensor=4"},
      {"vllm", "data=1,tensor=3"},
      {"vllm", "data=1,tensor=7"},
  }));
  if (odd_heads) {
    options.heads = 9;
    options.kv_heads = 3;
  }
  options.tied = tied;
  CAPTURE(odd_heads, tied, preset, axes);
  const Files files(options);
  const Mesh mesh = MeshOf(axes);
  for (int64_t index = 0; index < mesh.size(); ++index) {
    CAPTURE(index);
    Held held = HoldAt(files, preset, mesh, index);
    const auto checked =
        checker::CheckMemory(files.bytes, ExpectAt(files, preset, mesh, index),
                             held.params, held.data(), held.size(), 0);
    REQUIRE_OK(checked);
    int64_t bytes = 0;
    for (const LocalParam& param : held.layout.params) {
      bytes += param.num_bytes();
    }
    CHECK(*checked == bytes);
  }
}

TEST_CASE("one flipped bit anywhere in a parameter is found and named",
          "[tools][checker]") {
  const Files files(Tiny());
  const Mesh mesh = MeshOf("data=1,tensor=4");
  Held held = HoldAt(files, "vllm", mesh, 1);
  const checker::Expectation expected = ExpectAt(files, "vllm", mesh, 1);
  std::mt19937_64 random(7);
  const std::vector<LocalParam> params = held.layout.params;
  for (const LocalParam& param : params) {
    if (param.num_bytes() == 0) continue;
    const auto at = static_cast<size_t>(
        param.offset_bytes +
        static_cast<int64_t>(random() %
                             static_cast<uint64_t>(param.num_bytes())));
    held.memory[at] ^= uint8_t{1} << random() % 8;
    CHECK_THAT(checker::CheckMemory(files.bytes, expected, held.params,
                                    held.data(), held.size(), 0),
               StatusIs(absl::StatusCode::kDataLoss, param.name));
    held = HoldAt(files, "vllm", mesh, 1);
  }
}

TEST_CASE("the update is expected exactly, and only where there are weights",
          "[tools][checker]") {
  const Files files(Tiny());
  const Mesh mesh = MeshOf("pipe=2,data=1,tensor=2");
  Held held = HoldAt(files, "megatron", mesh, 3);
  const checker::Expectation expected = ExpectAt(files, "megatron", mesh, 3);
  const auto check = [&](int sign_flips) {
    return checker::CheckMemory(files.bytes, expected, held.params, held.data(),
                                held.size(), sign_flips);
  };
  REQUIRE_OK(quickstart::FlipSigns(held.layout, held.data(), held.size()));
  CHECK_OK(check(1));
  CHECK_THAT(check(0), StatusIs(absl::StatusCode::kDataLoss));
  REQUIRE_OK(quickstart::FlipSigns(held.layout, held.data(), held.size()));
  CHECK_OK(check(2));
  CHECK_OK(check(0));
}

TEST_CASE("parameters that are missing, unknown or of another shape are found",
          "[tools][checker]") {
  const Files files(Tiny());
  const Mesh mesh = MeshOf("data=1,tensor=2");
  Held held = HoldAt(files, "vllm", mesh, 0);
  const checker::Expectation expected = ExpectAt(files, "vllm", mesh, 0);
  const auto check = [&](const std::vector<checker::HeldParam>& params) {
    return checker::CheckMemory(files.bytes, expected, params, held.data(),
                                held.size(), 0);
  };
  std::vector<checker::HeldParam> params = held.params;
  params.pop_back();
  CHECK_THAT(check(params),
             StatusIs(absl::StatusCode::kDataLoss, held.params.back().name));
  params = held.params;
  params[0].name = "stranger";
  CHECK_THAT(check(params), StatusIs(absl::StatusCode::kDataLoss, "stranger"));
  params = held.params;
  params[0].shape[0] += 1;
  params[0].offset_bytes = held.size() - 1;
  CHECK_THAT(check(params),
             StatusIs(absl::StatusCode::kDataLoss, params[0].name));
}

}  // namespace
}  // namespace sluice
