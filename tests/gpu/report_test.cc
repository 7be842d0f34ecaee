#include "tests/gpu/report.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice::gpu_tests {
namespace {

using testing::IsOk;
using testing::StatusIs;

Report Mixed() {
  Report report;
  report.gpu = "GPU 0: some";
  report.compute_capability = "9.0";
  report.Set({"copies", Outcome::kPassed, "", 1.25});
  report.Set({"casts", Outcome::kFailed, "it did not end", 0});
  report.Set({"agents", Outcome::kSkipped, "no NCCL", 0});
  return report;
}

TEST_CASE("a row takes the place of the row of its name", "[gpu_checks]") {
  Report report = Mixed();
  report.Set({"casts", Outcome::kPassed, "", 3});
  REQUIRE(report.rows.size() == 3);
  CHECK(report.rows[1].outcome == Outcome::kPassed);
  CHECK(report.Count(Outcome::kPassed) == 2);
  CHECK(report.Count(Outcome::kFailed) == 0);
}

TEST_CASE("a report is read as it was written", "[gpu_checks]") {
  const testing::TestDir dir;
  const std::string path = dir.path() + "/report.json";
  CHECK_THAT(ReadReport(path), StatusIs(absl::StatusCode::kNotFound));
  // Twice: a later report takes the place of an earlier one.
  CHECK_OK(WriteReport(Report{}, path));
  Report report = Mixed();
  // No UTF-8: as another program's last words may be.
  report.rows[1].why = "said \xff";
  CHECK_OK(WriteReport(report, path));
  REQUIRE_OK_AND_ASSIGN(const Report found, ReadReport(path));
  CHECK(found.gpu == report.gpu);
  CHECK(found.compute_capability == "9.0");
  REQUIRE(found.rows.size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(found.rows[i].name == report.rows[i].name);
    CHECK(found.rows[i].outcome == report.rows[i].outcome);
    CHECK(found.rows[i].seconds == report.rows[i].seconds);
  }
  CHECK(found.rows[2].why == "no NCCL");
  CHECK(found.rows[1].why.rfind("said ", 0) == 0);
}

TEST_CASE("what is no report is refused", "[gpu_checks]") {
  const testing::TestDir dir;
  const std::string path = dir.path() + "/report.json";
  for (const char* text : {"", "[]", "{\"gpu\": 1}"}) {
    std::ofstream(path) << text;
    CHECK_THAT(ReadReport(path), StatusIs(absl::StatusCode::kInvalidArgument));
  }
  CHECK_THAT(WriteReport(Report{}, dir.path() + "/none/report.json"),
             StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_CASE("a skipped row is named and no failure", "[gpu_checks]") {
  const std::string said = Mixed().Print();
  CAPTURE(said);
  CHECK(said.find("1 passed, 1 failed, 1 skipped") != std::string::npos);
  CHECK(said.find("no NCCL") != std::string::npos);
  CHECK(Line(Mixed().rows[2]).find("skipped") == 0);
}

}  // namespace
}  // namespace sluice::gpu_tests
