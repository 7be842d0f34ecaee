// Every vector file, in CI. One test case per topic.

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/golden/golden_file.h"
#include "tests/support/status_matchers.h"

namespace sluice::golden {
namespace {

constexpr char kFolder[] = "tests/golden/vectors";

void RunTopic(const std::string& topic) {
  REQUIRE_OK_AND_ASSIGN(
      const FileResult result,
      RunGoldenFile(absl::StrCat(kFolder, "/", topic, ".json")));
  INFO(result.Report());
  CHECK(result.topic == topic);
  CHECK(result.num_passed > 0);
  CHECK(result.failures.empty());
}

TEST_CASE("topology answers as the reference", "[golden]") {
  RunTopic("topology");
}
TEST_CASE("grid answers as the reference", "[golden]") { RunTopic("grid"); }
TEST_CASE("factors answer as the reference", "[golden]") {
  RunTopic("factors");
}
TEST_CASE("storage answers as the reference", "[golden]") {
  RunTopic("storage");
}
TEST_CASE("gather-scatter answers as the reference", "[golden]") {
  RunTopic("gather_scatter");
}
TEST_CASE("broadcast answers as the reference", "[golden]") {
  RunTopic("bcast");
}
TEST_CASE("datapack answers as the reference", "[golden]") {
  RunTopic("datapack");
}
TEST_CASE("split answers as the reference", "[golden]") { RunTopic("split"); }
TEST_CASE("dispatch answers as the reference", "[golden]") {
  RunTopic("dispatch");
}
TEST_CASE("rank mapping answers as the reference", "[golden]") {
  RunTopic("rank_mapping");
}
TEST_CASE("hyper-expert rank mapping answers as the reference", "[golden]") {
  RunTopic("rank_mapping_hep");
}
TEST_CASE("sync groups answer as the reference", "[golden]") {
  RunTopic("sync_groups");
}
TEST_CASE("bucketer answers as the reference", "[golden]") {
  RunTopic("bucketer");
}

TEST_CASE("every vector file has its topic above", "[golden]") {
  int num_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    num_files += entry.path().extension() == ".json" ? 1 : 0;
  }
  CHECK(num_files == 13);
}

TEST_CASE("a wrong answer, an unknown topic or no case is a failure",
          "[golden]") {
  const std::string path =
      (std::filesystem::temp_directory_path() / "golden_file_test.json")
          .string();
  const auto write = [&](const std::string& text) {
    std::ofstream(path, std::ios::trunc) << text;
  };
  write(R"({"topic": "factors", "schema_version": 1, "cases": [
      {"id": "a", "n": 6, "three_factors_sorted": [], "prime_factors": [2, 3],
       "original_base_order_triples": [[1, 1, 6], [1, 2, 3]]},
      {"id": "b", "n": 7, "prime_factors": [7],
       "original_base_order_triples": [[1, 1, 7]],
       "three_factors_sorted": [[1, 1, 7], [1, 7, 1], [7, 1, 1]]},
      {"id": "c"}]})");
  REQUIRE_OK_AND_ASSIGN(const FileResult result, RunGoldenFile(path));
  CHECK(result.num_passed == 1);
  REQUIRE(result.failures.size() == 2);
  CHECK(result.failures[0].id == "a");
  CHECK(result.failures[1].id == "c");
  CHECK_THAT(result.Report(),
             Catch::StartsWith("factors: 1 passed, 2 failed\n  a\n"));

  write(R"({"topic": "factors", "schema_version": 1, "cases": []})");
  CHECK_THAT(RunGoldenFile(path),
             testing::StatusIs(absl::StatusCode::kInvalidArgument));
  write(R"({"topic": "other", "schema_version": 1, "cases": [{}]})");
  CHECK_THAT(RunGoldenFile(path),
             testing::StatusIs(absl::StatusCode::kInvalidArgument, "other"));
  CHECK_THAT(RunGoldenFile(path + ".none"),
             testing::StatusIs(absl::StatusCode::kNotFound));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace sluice::golden
