#include "tools/sluicectl/sample_values.h"

#include <catch2/catch.hpp>

#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice::ctl {
namespace {

using testing::StatusIs;

TEST_CASE("numbers become elements and back", "[tools][sluicectl]") {
  const auto [dtype, text] = GENERATE(table<v1::DType, const char*>({
      {v1::DTYPE_F32, "-2, 0, 0.5, 100"},
      {v1::DTYPE_F64, "-2, 0, 0.5, 100"},
      {v1::DTYPE_BF16, "-2, 0, 0.5, 100"},
  }));
  CAPTURE(dtype);
  const auto bytes = EncodeValues(dtype, {-2, 0, 0.5, 100});
  REQUIRE_OK(bytes);
  const auto size = static_cast<int64_t>(bytes->size());
  CHECK(PrintValues(dtype, bytes->data(), size, 9) == text);
  CHECK(PrintValues(dtype, bytes->data(), size, 1) == "-2, ...");
}

TEST_CASE("integers must be whole and in range", "[tools][sluicectl]") {
  CHECK_OK(EncodeValues(v1::DTYPE_U8, {0, 255}));
  CHECK_OK(EncodeValues(v1::DTYPE_I8, {-128, 127}));
  for (const double bad : {256.0, -1.0, 0.5}) {
    CHECK_THAT(EncodeValues(v1::DTYPE_U8, {bad}),
               StatusIs(absl::StatusCode::kInvalidArgument));
  }
  CHECK_THAT(EncodeValues(v1::DTYPE_I64, {9223372036854775808.0}),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK_THAT(EncodeValues(v1::DTYPE_F16, {1}),
             StatusIs(absl::StatusCode::kInvalidArgument, "F16"));
}

TEST_CASE("samples come from JSON, with numbers or files",
          "[tools][sluicectl]") {
  const testing::TestDir dir;
  dir.Write("p.bin", absl::string_view("\1\0\0\0\2\0\0\0", 8));
  const auto samples = ParseSamples(
      R"([{"sample": "a", "key": "rewards", "dtype": "float32",
           "lengths": [2], "values": [0.5, 1]},
          {"sample": "a", "key": "prompts", "dtype": "int32",
           "lengths": [1], "row": [2], "file": "p.bin"}])",
      dir.path());
  REQUIRE_OK(samples);
  REQUIRE(samples->size() == 2);
  for (const OwnedSample& sample : *samples) {
    const auto bytes = EntryBytes(sample.entry);
    REQUIRE_OK(bytes);
    CHECK(*bytes == 8);
    CHECK(sample.bytes.size() == 8);
  }
}

TEST_CASE("bad samples are refused by position", "[tools][sluicectl]") {
  const auto parse = [](const char* text) { return ParseSamples(text, "."); };
  CHECK_THAT(parse("{}"), StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK_THAT(parse("["), StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK_THAT(parse(R"([{"sample": "a"}])"),
             StatusIs(absl::StatusCode::kInvalidArgument, "sample 0"));
  CHECK_THAT(parse(R"([{"sample": "a", "key": "k", "dtype": "int33",
                        "lengths": [1], "values": [1]}])"),
             StatusIs(absl::StatusCode::kInvalidArgument, "int33"));
  CHECK_THAT(parse(R"([{"sample": "a", "key": "k", "dtype": "int32",
                        "lengths": [1], "file": "/nowhere"}])"),
             StatusIs(absl::StatusCode::kNotFound, "/nowhere"));
}

}  // namespace
}  // namespace sluice::ctl
