// Loading views: every byte of every agent's buffer, from generated files.

#include "agent/checkpoint/view_loader.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "agent/checkpoint/checkpoint_model.h"
#include "common/layout.h"
#include "common/layout_json.h"
#include "presets/layout_presets.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"
#include "tools/checkpoint_generator/generator.h"
#include "tools/checkpoint_generator/values.h"

namespace sluice::agent {
namespace {

using ::sluice::testing::StatusIs;
using ::sluice::testing::TestDir;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// Nothing divides: 5 query and 5/2 KV heads per rank, odd widths and rows.
GeneratorOptions SmallOptions() {
  GeneratorOptions options;
  options.seed = 3;
  options.layers = 3;
  options.hidden = 10;
  options.heads = 6;
  options.kv_heads = 2;
  options.head_dim = 3;
  options.intermediate = 7;
  options.vocab = 13;
  return options;
}

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

struct Loaded {
  TestDir dir;
  std::unique_ptr<Checkpoint> checkpoint;
  CheckpointModel made;

  explicit Loaded(const GeneratorOptions& options) {
    REQUIRE_OK(GenerateCheckpoint(options, dir.File("c")));
    REQUIRE_OK_AND_ASSIGN(checkpoint, Checkpoint::Open(dir.File("c")));
    REQUIRE_OK_AND_ASSIGN(made, ModelFromCheckpoint(*checkpoint, "m"));
  }

  Layout Preset(const std::string& name) {
    REQUIRE_OK_AND_ASSIGN(const absl::string_view text, FindLayoutPreset(name));
    REQUIRE_OK_AND_ASSIGN(Layout layout, ResolvePreset(text, made.variables));
    return layout;
  }
};

// The buffer that the layout and the values' definition give, byte by byte.
std::vector<uint8_t> Expected(const ModelSpec& model, const RankLayout& rank,
                              uint64_t seed) {
  std::vector<uint8_t> out(static_cast<size_t>(rank.buffer_bytes), 0);
  for (const View& view : rank.views) {
    const TensorSpec& tensor = model.tensor(view.tensor);
    const LocalParam& param = rank.params[static_cast<size_t>(view.param)];
    const int64_t size = ByteSize(tensor.dtype);
    const uint64_t key = TensorKey(seed, tensor.name);
    for (int64_t flat = 0; flat < tensor.num_elements(); ++flat) {
      int64_t rest = flat;
      int64_t at = view.offset;
      bool inside = true;
      for (size_t d = tensor.shape.size(); d-- > 0;) {
        const int64_t e = rest % tensor.shape[d];
        rest /= tensor.shape[d];
        inside &= e >= view.box.dim(static_cast<int>(d)).lo &&
                  e < view.box.dim(static_cast<int>(d)).hi;
        at += (e - view.box.dim(static_cast<int>(d)).lo) * view.strides[d];
      }
      if (!inside) continue;
      FillValues(key, tensor.dtype, flat,
                 absl::MakeSpan(out).subspan(
                     static_cast<size_t>(param.offset_bytes + at * size),
                     static_cast<size_t>(size)));
    }
  }
  return out;
}

TEST_CASE("each agent's buffer is filled to the byte", "[load]") {
  const auto row = GENERATE(table<std::string, DType, bool, int64_t>({
      {"megatron", DType::kBF16, true, 0},
      {"megatron", DType::kF32, false, 4},
      {"vllm", DType::kF16, true, 0},
      {"vllm", DType::kBF16, false, 2},
      {"huggingface", DType::kBF16, true, 0},
  }));
  GeneratorOptions options = SmallOptions();
  options.dtype = std::get<1>(row);
  options.tied = std::get<2>(row);
  Loaded loaded(options);
  loaded.made.variables["vocab_pad_units"] = std::get<3>(row);
  const Layout layout = loaded.Preset(std::get<0>(row));
  const Mesh mesh = MakeMesh({{"pipe", 2}, {"data", 1}, {"tensor", 4}});
  REQUIRE_OK(CheckLayout(loaded.made.model, layout, mesh));
  for (int64_t i = 0; i < mesh.size(); ++i) {
    CAPTURE(std::get<0>(row), i);
    REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                          ExpandLayout(loaded.made.model, layout, mesh, i));
    // Dirty, and longer than needed: the rest must stay.
    std::vector<uint8_t> buffer(static_cast<size_t>(rank.buffer_bytes) + 5,
                                0xab);
    LoadOptions small_chunks;
    small_chunks.chunk_bytes = 50;
    REQUIRE_OK_AND_ASSIGN(const int64_t bytes,
                          LoadViews(*loaded.checkpoint, loaded.made.model, rank,
                                    absl::MakeSpan(buffer), small_chunks));
    int64_t view_bytes = 0;
    for (const View& view : rank.views) {
      view_bytes += view.box.num_elements() * ByteSize(options.dtype);
    }
    CHECK(bytes == view_bytes);
    CHECK(std::vector<uint8_t>(buffer.end() - 5, buffer.end()) ==
          std::vector<uint8_t>(5, 0xab));
    buffer.resize(buffer.size() - 5);
    CHECK(buffer == Expected(loaded.made.model, rank, options.seed));
  }
}

TEST_CASE("parameters of another type are cast as they are loaded", "[load]") {
  const Loaded loaded(SmallOptions());
  const ModelSpec& model = loaded.made.model;
  // A bf16 tensor of 13 x 10, columns [2,6), transposed into an f32 parameter.
  const auto found = std::find_if(model.tensors.begin(), model.tensors.end(),
                                  [](const TensorSpec& t) {
                                    return t.shape == Shape{13, 10};
                                  });
  REQUIRE(found != model.tensors.end());
  REQUIRE(found->dtype == DType::kBF16);
  RankLayout rank;
  rank.params = {{"p", DType::kF32, {4, 13}, 0}};
  rank.views = {
      {TensorIndex(static_cast<int32_t>(found - model.tensors.begin())),
       Box({{0, 13}, {2, 6}}),
       0,
       0,
       {1, 13}}};
  rank.buffer_bytes = 4 * 13 * 4;
  std::vector<float> buffer(4 * 13, -1.0f);
  LoadOptions odd_chunks;  // which end inside elements
  odd_chunks.chunk_bytes = 7;
  const absl::Span<uint8_t> bytes(reinterpret_cast<uint8_t*>(buffer.data()),
                                  buffer.size() * sizeof(float));
  REQUIRE_OK(LoadViews(*loaded.checkpoint, model, rank, bytes, odd_chunks));
  std::vector<float> expected(4 * 13);
  for (int64_t row = 0; row < 13; ++row) {
    for (int64_t column = 2; column < 6; ++column) {
      uint8_t value[2];
      FillValues(TensorKey(/*seed=*/3, found->name), DType::kBF16,
                 row * 10 + column, absl::MakeSpan(value));
      // A bf16 is the upper half of an f32.
      const uint32_t bits = uint32_t{value[0]} << 16 | uint32_t{value[1]} << 24;
      std::memcpy(&expected[static_cast<size_t>((column - 2) * 13 + row)],
                  &bits, sizeof(bits));
    }
  }
  CHECK(buffer == expected);

  rank.params[0].dtype = DType::kI32;
  CHECK_THAT(LoadViews(*loaded.checkpoint, model, rank, bytes, odd_chunks),
             StatusIs(kInvalid, "I32"));
}

TEST_CASE("a load reports its progress and can be cancelled", "[load]") {
  Loaded loaded(SmallOptions());
  const Layout layout = loaded.Preset("huggingface");
  const Mesh mesh = MakeMesh({{"data", 1}});
  REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                        ExpandLayout(loaded.made.model, layout, mesh, 0));
  std::vector<uint8_t> buffer(static_cast<size_t>(rank.buffer_bytes));
  std::vector<int64_t> seen;
  int64_t total = 0;
  LoadOptions options;
  options.chunk_bytes = 100;
  options.progress = [&](int64_t done, int64_t all) {
    seen.push_back(done);
    total = all;
    return true;
  };
  REQUIRE_OK_AND_ASSIGN(const int64_t bytes,
                        LoadViews(*loaded.checkpoint, loaded.made.model, rank,
                                  absl::MakeSpan(buffer), options));
  CHECK(bytes == loaded.made.model.num_bytes());
  CHECK(total == bytes);
  REQUIRE(seen.size() > 3);
  CHECK(std::is_sorted(seen.begin(), seen.end()));
  CHECK(seen.back() == bytes);

  int calls = 0;
  options.progress = [&calls](int64_t, int64_t) { return ++calls < 2; };
  CHECK_THAT(LoadViews(*loaded.checkpoint, loaded.made.model, rank,
                       absl::MakeSpan(buffer), options),
             StatusIs(absl::StatusCode::kCancelled));
  CHECK(calls == 2);
}

TEST_CASE("a model unlike the files is refused before a byte is written",
          "[load]") {
  Loaded loaded(SmallOptions());
  const Layout layout = loaded.Preset("huggingface");
  const Mesh mesh = MakeMesh({{"data", 1}});
  const auto load = [&](const ModelSpec& model, size_t missing_bytes = 0) {
    REQUIRE_OK_AND_ASSIGN(const RankLayout rank,
                          ExpandLayout(model, layout, mesh, 0));
    std::vector<uint8_t> buffer(
        static_cast<size_t>(rank.buffer_bytes) - missing_bytes, 0xcd);
    const absl::Status status =
        LoadViews(*loaded.checkpoint, model, rank, absl::MakeSpan(buffer))
            .status();
    CHECK(std::count(buffer.begin(), buffer.end(), 0xcd) ==
          static_cast<int64_t>(buffer.size()));
    return status;
  };
  ModelSpec model = loaded.made.model;
  TensorSpec& last = model.tensors.back();
  last.shape[0] += 1;
  CHECK_THAT(load(model), StatusIs(kInvalid, last.name));
  CHECK_THAT(load(model), StatusIs(kInvalid, "BF16 [11], found BF16 [10]"));
  last.shape[0] -= 1;
  last.dtype = DType::kF16;
  CHECK_THAT(load(model), StatusIs(kInvalid, "F16 [10], found BF16 [10]"));
  last.dtype = DType::kBF16;
  last.name = "absent";
  CHECK_THAT(load(model), StatusIs(absl::StatusCode::kNotFound, "absent"));
  CHECK_THAT(load(loaded.made.model, /*missing_bytes=*/1),
             StatusIs(kInvalid, "buffer"));
}

TEST_CASE("views that do not fit are refused", "[load]") {
  Loaded loaded(SmallOptions());
  const Layout layout = loaded.Preset("huggingface");
  REQUIRE_OK_AND_ASSIGN(
      const RankLayout good,
      ExpandLayout(loaded.made.model, layout, MakeMesh({{"data", 1}}), 0));
  std::vector<uint8_t> buffer(static_cast<size_t>(good.buffer_bytes));
  const auto load = [&](const RankLayout& rank) {
    return LoadViews(*loaded.checkpoint, loaded.made.model, rank,
                     absl::MakeSpan(buffer))
        .status();
  };
  CHECK_OK(load(good));
  RankLayout bad = good;
  bad.views[0].offset = 1;
  CHECK_THAT(load(bad), StatusIs(kInvalid));
  bad = good;
  bad.views[0].param = 1000;
  CHECK_THAT(load(bad), StatusIs(kInvalid));
  bad = good;
  bad.views[0].box.dim(0).hi += 1;
  CHECK_THAT(load(bad), StatusIs(kInvalid));
  bad = good;
  bad.params.back().offset_bytes += kParamAlignment;
  CHECK_THAT(load(bad), StatusIs(kInvalid, bad.params.back().name));
  bad = good;
  bad.params[0].offset_bytes = -1;
  CHECK_THAT(load(bad), StatusIs(kInvalid, bad.params[0].name));
}

}  // namespace
}  // namespace sluice::agent
