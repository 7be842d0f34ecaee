#ifndef SLUICE_TESTS_GOLDEN_CASE_CHECK_H_
#define SLUICE_TESTS_GOLDEN_CASE_CHECK_H_

// Judging one golden case: what differs, and where.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace sluice::golden {

using Json = nlohmann::json;

// Collects the differences of a case, the first few in words.
class CaseCheck {
 public:
  explicit CaseCheck(const Json& golden_case) : case_(golden_case) {}

  const Json& golden() const { return case_; }
  // The case's `right`, or an empty object.
  const Json& right() const;
  // Whether the reference's answer shows this bug, or (without a name) any.
  bool HasBug(absl::string_view id = "") const;

  // Compares values; `what` names them in a difference.
  void Equal(absl::string_view what, const Json& expected, const Json& found);
  void True(absl::string_view what, bool holds);
  void Fail(std::string difference);

  // Whether the case is about a refusal: the reference failed, or `right` says
  // to refuse.
  bool ExpectsRefusal() const;
  // Judges a status where ExpectsRefusal(): an error, with the code that
  // `right` names if it does.
  void Refused(const absl::Status& status);
  // Judges a status where an answer is expected; returns whether it is OK.
  bool Ok(absl::string_view what, const absl::Status& status);

  const std::vector<std::string>& differences() const { return differences_; }
  int64_t num_differences() const { return num_differences_; }
  // How many comparisons were made: a case without any is not judged.
  int64_t num_comparisons() const { return num_comparisons_; }

 private:
  void Compare(const std::string& path, const Json& expected,
               const Json& found);

  const Json& case_;
  std::vector<std::string> differences_;
  int64_t num_differences_ = 0;
  int64_t num_comparisons_ = 0;
};

}  // namespace sluice::golden

#endif  // SLUICE_TESTS_GOLDEN_CASE_CHECK_H_
