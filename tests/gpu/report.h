#ifndef SLUICE_TESTS_GPU_REPORT_H_
#define SLUICE_TESTS_GPU_REPORT_H_

// What gpu_tests has found so far: rows, their table, and the JSON file that
// every row is written to, so that what a later row does loses nothing.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::gpu_tests {

enum class Outcome { kPassed, kFailed, kSkipped };

// "passed", "FAILED", "skipped".
absl::string_view Name(Outcome outcome);

struct Row {
  std::string name;
  Outcome outcome = Outcome::kPassed;
  std::string why;  // of a failure or a skip; what a pass was run with
  double seconds = 0;
};

// One line, for when the row ends.
std::string Line(const Row& row);

struct Report {
  std::string gpu;
  std::string compute_capability;
  std::vector<Row> rows;

  // In place of a row of that name, else behind all.
  void Set(Row row);
  int Count(Outcome outcome) const;
  // The GPU, the rows and how many passed, failed and were skipped.
  std::string Print() const;
};

// Errors: NOT_FOUND - no such file; INVALID_ARGUMENT - it is no report.
absl::StatusOr<Report> ReadReport(const std::string& path);
// Whoever reads the file finds a whole report, this one or the last one.
// Errors: FAILED_PRECONDITION - cannot be written.
absl::Status WriteReport(const Report& report, const std::string& path);

}  // namespace sluice::gpu_tests

#endif  // SLUICE_TESTS_GPU_REPORT_H_
