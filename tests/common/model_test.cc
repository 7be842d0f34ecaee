#include "common/model.h"

#include <catch2/catch.hpp>

#include "common/dtype.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::StatusIs;

ModelSpec Tiny() {
  ModelSpec model;
  model.name = "tiny";
  model.tensors = {{"a", DType::kBF16, {3, 4}}, {"b", DType::kF32, {}}};
  model.aliases = {{"c", "a"}};
  return model;
}

TEST_CASE("a model counts the bytes of its tensors") {
  CHECK(Tiny().Validate().ok());
  CHECK(Tiny().num_bytes() == 3 * 4 * 2 + 4);
}

TEST_CASE("a bad model is refused naming the tensor") {
  ModelSpec model = Tiny();
  SECTION("a name twice") { model.tensors[1].name = "a"; }
  SECTION("an unspecified dtype") {
    model.tensors[0].dtype = DType::kUnspecified;
  }
  SECTION("a negative size") { model.tensors[0].shape = {-3, 4}; }
  SECTION("an overflowing size") {
    model.tensors[0].shape = {int64_t{1} << 40, int64_t{1} << 40};
  }
  SECTION("an alias of nothing") { model.tensors[0].name = "z"; }
  CHECK_THAT(model.Validate(),
             StatusIs(absl::StatusCode::kInvalidArgument, "\"a\""));
}

TEST_CASE("parameters are packed one after another, aligned") {
  RankLayout layout;
  layout.params = {{"x", DType::kBF16, {3}, 0}, {"y", DType::kF32, {100}, 0}};
  PackParams(layout);
  CHECK(layout.params[0].offset_bytes == 0);
  CHECK(layout.params[1].offset_bytes == 256);
  CHECK(layout.buffer_bytes == 256 + 512);  // 400 bytes rounded up
}

TEST_CASE("every dtype parses from its safetensors and its torch name") {
  for (int i = 1; i <= 12; ++i) {
    const auto dtype = static_cast<DType>(i);
    CAPTURE(dtype);
    CHECK(ByteSize(dtype) > 0);
    const auto parsed = ParseDType(DTypeName(dtype));
    REQUIRE(parsed.ok());
    CHECK(*parsed == dtype);
  }
  CHECK(*ParseDType("bfloat16") == DType::kBF16);
  CHECK_THAT(ParseDType("BF17").status(),
             StatusIs(absl::StatusCode::kInvalidArgument, "BF17"));
}

}  // namespace
}  // namespace sluice
