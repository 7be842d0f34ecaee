#include "common/json_strict.h"

#include <memory>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::StatusIs;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST_CASE("a document is read as json::parse reads it", "[json]") {
  const std::string text =
      R"({"a": [1, -2, 3.5, "x", null, true, {}, []], "b": {"c": {"d": 1}}})";
  REQUIRE_OK_AND_ASSIGN(const nlohmann::json value, ParseJson(text));
  CHECK(value == nlohmann::json::parse(text));
}

TEST_CASE("what is no JSON, or ambiguous, is refused", "[json]") {
  CHECK_THAT(ParseJson(""), StatusIs(kInvalid));
  CHECK_THAT(ParseJson("{\"a\": 1"), StatusIs(kInvalid));
  CHECK_THAT(ParseJson("{} {}"), StatusIs(kInvalid));
  CHECK_THAT(ParseJson("{\"a\": 1, \"b\": {\"a\": 1, \"a\": 2}}"),
             StatusIs(kInvalid, "\"a\""));
  CHECK_THAT(ParseJson(std::string(100, '[') + std::string(100, ']')),
             StatusIs(kInvalid, "deeper"));
  CHECK_THAT(ParseJson("\"\xff\""), StatusIs(kInvalid));
}

TEST_CASE("members are read by type, others are refused", "[json]") {
  REQUIRE_OK_AND_ASSIGN(
      const nlohmann::json value,
      ParseJson(R"({"name": "n", "size": 18446744073709551615, "list": [1]})"));
  JsonObject object(value, "thing");
  std::string name;
  CHECK_OK(object.ReadString("name", name));
  CHECK(name == "n");
  int64_t size = 5;
  CHECK_OK(object.ReadInt("absent", size));
  CHECK(size == 5);
  CHECK_THAT(object.ReadInt("size", size), StatusIs(kInvalid, "\"size\""));
  std::vector<std::string> strings;
  CHECK_THAT(object.ReadStrings("list", strings), StatusIs(kInvalid, "thing"));
  CHECK_THAT(object.ReadBool("name", *std::make_unique<bool>()),
             StatusIs(kInvalid, "\"name\""));
  CHECK_THAT(object.Require("absent"), StatusIs(kInvalid, "\"absent\""));
  CHECK_OK(object.CheckNoOthers());
  JsonObject other(value, "thing");
  CHECK_OK(other.ReadString("nam", name));
  CHECK_THAT(other.CheckNoOthers(), StatusIs(kInvalid, "thing"));
}

TEST_CASE("the nearest name is the one with the fewest edits", "[json]") {
  const std::vector<absl::string_view> names = {"pattern", "splits", "stage"};
  CHECK(NearestName("patern", names) == "pattern");
  CHECK(NearestName("split", names) == "splits");
  CHECK(NearestName("x", {}).empty());
}

}  // namespace
}  // namespace sluice
