#ifndef SLUICE_TESTS_GOLDEN_GOLDEN_FILE_H_
#define SLUICE_TESTS_GOLDEN_GOLDEN_FILE_H_

// Running one file of golden cases.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/golden/case_check.h"

namespace sluice::golden {

struct FileResult {
  std::string topic;
  int64_t num_passed = 0;
  // Id of each failed case, with its first differences.
  struct Failure {
    std::string id;
    std::vector<std::string> differences;
    int64_t num_differences = 0;
  };
  std::vector<Failure> failures;

  // "TOPIC: N passed, N failed", and a paragraph per failed case.
  std::string Report() const;
};

// How a case of a topic is judged.
using CaseJudge = std::function<void(CaseCheck&)>;

// `also` judges each case once more, by its topic.
// Errors: NOT_FOUND - the file cannot be read; INVALID_ARGUMENT - it is no
// golden file, of an unknown topic or schema version, or has no case.
absl::StatusOr<FileResult> RunGoldenFile(
    const std::string& path, const std::map<std::string, CaseJudge>& also = {});

}  // namespace sluice::golden

#endif  // SLUICE_TESTS_GOLDEN_GOLDEN_FILE_H_
