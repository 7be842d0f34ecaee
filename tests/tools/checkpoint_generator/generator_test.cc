#include "tools/checkpoint_generator/generator.h"

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/checkpoint/checkpoint.h"
#include "agent/checkpoint/checkpoint_model.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"
#include "tools/checkpoint_generator/values.h"

namespace sluice {
namespace {

using ::sluice::testing::StatusIs;
using ::sluice::testing::TestDir;

GeneratorOptions SmallOptions() {
  GeneratorOptions options;
  options.layers = 3;
  options.hidden = 6;
  options.heads = 4;
  options.kv_heads = 2;
  options.head_dim = 3;
  options.intermediate = 5;
  options.vocab = 11;
  return options;
}

TEST_CASE("a value depends on seed, name and index alone", "[generator]") {
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32, DType::kU8,
                            DType::kI32, DType::kI64}) {
    CAPTURE(static_cast<int>(dtype));
    const auto size = static_cast<size_t>(ByteSize(dtype));
    const uint64_t key = TensorKey(7, "w");
    std::vector<uint8_t> whole(101 * size);
    FillValues(key, dtype, 0, absl::MakeSpan(whole));
    for (size_t first : {0, 1, 2, 3, 5, 8, 17}) {
      for (size_t count : {0, 1, 2, 3, 4, 7, 64}) {
        std::vector<uint8_t> part(count * size);
        FillValues(key, dtype, static_cast<int64_t>(first),
                   absl::MakeSpan(part));
        CHECK(part ==
              std::vector<uint8_t>(
                  whole.begin() + static_cast<long>(first * size),
                  whole.begin() + static_cast<long>((first + count) * size)));
      }
    }
    std::vector<uint8_t> other(whole.size());
    FillValues(TensorKey(8, "w"), dtype, 0, absl::MakeSpan(other));
    CHECK(other != whole);
    FillValues(TensorKey(7, "v"), dtype, 0, absl::MakeSpan(other));
    CHECK(other != whole);
  }
}

TEST_CASE("floating values are finite, small and varied", "[generator]") {
  std::vector<uint16_t> bits(4096);
  FillValues(
      TensorKey(1, "w"), DType::kBF16, 0,
      absl::MakeSpan(reinterpret_cast<uint8_t*>(bits.data()), bits.size() * 2));
  std::set<uint16_t> seen;
  int negative = 0;
  for (const uint16_t b : bits) {
    const uint32_t wide = static_cast<uint32_t>(b) << 16;
    float value;
    std::memcpy(&value, &wide, 4);
    REQUIRE(std::fabs(value) >= std::ldexp(1.0f, -10));
    REQUIRE(std::fabs(value) < std::ldexp(1.0f, -2));
    seen.insert(b);
    negative += value < 0 ? 1 : 0;
  }
  // 2 signs * 8 exponents * 128 mantissas = 2048 values, 4096 drawn: all but
  // about 2048 * exp(-2) = 277 are seen.
  CHECK(seen.size() > 1600);
  CHECK(negative > 1800);
  CHECK(negative < 2300);
}

TEST_CASE("values are what they always were", "[generator]") {
  // Kept checkpoints rely on them. Worked out by another program from the
  // formulas of values.h: sign, then exponent 117 + 3 bits, then 7 bits.
  std::vector<uint16_t> bits(4);
  FillValues(TensorKey(1, "model.norm.weight"), DType::kBF16, 0,
             absl::MakeSpan(reinterpret_cast<uint8_t*>(bits.data()), 8));
  CAPTURE(bits[0], bits[1], bits[2], bits[3]);
  CHECK(bits == std::vector<uint16_t>{15525, 48134, 15491, 47911});
}

TEST_CASE("a generated checkpoint holds its model", "[generator]") {
  const TestDir dir;
  const std::string path = dir.File("deep/er/c");
  GeneratorOptions options = SmallOptions();
  options.seed = 5;
  int64_t last = 0;
  int64_t total = 0;
  REQUIRE_OK_AND_ASSIGN(const bool made,
                        GenerateCheckpoint(options, path, /*replace=*/false,
                                           [&](int64_t done, int64_t all) {
                                             last = done;
                                             total = all;
                                           }));
  CHECK(made);
  CHECK(last == total);
  REQUIRE_OK_AND_ASSIGN(const auto checkpoint, agent::Checkpoint::Open(path));
  CHECK(checkpoint->files().size() == 2);
  for (const auto& tensor : checkpoint->tensors()) {
    CAPTURE(tensor.spec.name);
    std::vector<uint8_t> expected(tensor.data.size());
    FillValues(TensorKey(5, tensor.spec.name), DType::kBF16, 0,
               absl::MakeSpan(expected));
    CHECK(std::vector<uint8_t>(tensor.data.begin(), tensor.data.end()) ==
          expected);
  }
  REQUIRE_OK_AND_ASSIGN(const agent::CheckpointModel model,
                        agent::ModelFromCheckpoint(*checkpoint, "m"));
  CHECK(model.model.num_bytes() == total);
  CHECK(model.model.aliases.size() == 1);
  CHECK(model.variables.at("num_key_value_heads") == 2);
  CHECK(model.variables.at("head_dim") == 3);
  // 12 tensors a layer with biases, the embedding and the norm.
  CHECK(model.model.tensors.size() == 3 * 12 + 2);
  CHECK_FALSE(std::filesystem::exists(path + ".partial"));
}

TEST_CASE("the default is Qwen2.5-1.5B cut to 8 layers", "[generator]") {
  int64_t bytes = 0;
  for (const TensorSpec& tensor : GeneratedTensors({})) {
    bytes += tensor.num_bytes();
  }
  // Per layer: 2 * 1536 * 1536 (q, o) + 2 * 256 * 1536 (k, v) + 2048 (biases) +
  // 3 * 8960 * 1536 + 2 * 1536 (norms) = 46,797,824 elements; the embedding
  // 151936 * 1536 = 233,373,696; the last norm 1536. Two bytes each.
  CHECK(bytes == 2 * (8 * 46'797'824 + 233'373'696 + 1536));
}

TEST_CASE("a checkpoint that is there is kept", "[generator]") {
  const TestDir dir;
  const std::string path = dir.File("c");
  GeneratorOptions options = SmallOptions();
  options.files = 1;
  REQUIRE_OK(GenerateCheckpoint(options, path));
  const auto time =
      std::filesystem::last_write_time(path + "/model.safetensors");
  REQUIRE_OK_AND_ASSIGN(const bool again,
                        GenerateCheckpoint(options, path + "/"));
  CHECK_FALSE(again);
  CHECK(std::filesystem::last_write_time(path + "/model.safetensors") == time);

  options.seed = 2;
  CHECK_THAT(GenerateCheckpoint(options, path),
             StatusIs(absl::StatusCode::kAlreadyExists, "seed = 1"));
  REQUIRE_OK_AND_ASSIGN(const bool replaced,
                        GenerateCheckpoint(options, path, /*replace=*/true));
  CHECK(replaced);

  // Damaged: made again only when that was asked for.
  REQUIRE(truncate((path + "/model.safetensors").c_str(), 100) == 0);
  CHECK_THAT(GenerateCheckpoint(options, path),
             StatusIs(absl::StatusCode::kAlreadyExists, "model.safetensors"));
  CHECK_OK(GenerateCheckpoint(options, path, /*replace=*/true));
  CHECK_OK(agent::Checkpoint::Open(path));
}

TEST_CASE("what others made is never touched", "[generator]") {
  const TestDir dir;
  dir.Write("precious", "x");
  CHECK_THAT(GenerateCheckpoint(SmallOptions(), dir.path(), /*replace=*/true),
             StatusIs(absl::StatusCode::kAlreadyExists, dir.path()));
  CHECK(testing::ReadFile(dir.File("precious")) == "x");
  CHECK_THAT(GenerateCheckpoint(SmallOptions(), dir.File("precious")),
             StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_CASE("what a killed run left is cleared away", "[generator]") {
  const TestDir dir;
  std::filesystem::create_directory(dir.File("c.partial"));
  dir.Write("c.partial/model-00001-of-00002.safetensors", "half");
  REQUIRE_OK(GenerateCheckpoint(SmallOptions(), dir.File("c")));
  CHECK_OK(agent::Checkpoint::Open(dir.File("c")));
}

TEST_CASE("two runs for one directory wait for each other", "[generator]") {
  const TestDir dir;
  std::vector<absl::StatusOr<bool>> results(4, false);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&result, &dir] {
      result = GenerateCheckpoint(SmallOptions(), dir.File("c"));
    });
  }
  for (std::thread& thread : threads) thread.join();
  int made = 0;
  for (const auto& result : results) {
    REQUIRE_OK(result);
    made += *result ? 1 : 0;
  }
  CHECK(made == 1);
  CHECK_OK(agent::Checkpoint::Open(dir.File("c")));
}

TEST_CASE("options out of range are refused by name", "[generator]") {
  const TestDir dir;
  GeneratorOptions options = SmallOptions();
  options.kv_heads = 5;
  CHECK_THAT(GenerateCheckpoint(options, dir.File("c")),
             StatusIs(absl::StatusCode::kInvalidArgument, "kv_heads"));
  options = SmallOptions();
  options.dtype = DType::kI8;
  CHECK_THAT(GenerateCheckpoint(options, dir.File("c")),
             StatusIs(absl::StatusCode::kInvalidArgument, "I8"));
  options = SmallOptions();
  options.layers = 0;
  CHECK_THAT(GenerateCheckpoint(options, dir.File("c")),
             StatusIs(absl::StatusCode::kInvalidArgument, "layers"));
}

}  // namespace
}  // namespace sluice
