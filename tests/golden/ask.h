#ifndef SLUICE_TESTS_GOLDEN_ASK_H_
#define SLUICE_TESTS_GOLDEN_ASK_H_

// Asking Sluice what a case asks: by the one implementation of the topics'
// answers, which `sluicectl topology answer` shows.

#include <initializer_list>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tests/golden/case_check.h"

namespace sluice::golden {

// Returns the answer to a question. One that is not as the schema says is
// INTERNAL, which no case expects: it does not pass for a refusal.
absl::StatusOr<Json> Ask(absl::string_view topic, const Json& question);

// Returns the answer to the case. Where it expects a refusal or there is no
// answer, that is judged, and there is none to compare.
std::optional<Json> AnswerToCase(absl::string_view topic, CaseCheck& check);

// Compares these members of the answer with the case's.
void CompareMembers(std::initializer_list<const char*> members,
                    const Json& expected, const Json& answer, CaseCheck& check);

}  // namespace sluice::golden

#endif  // SLUICE_TESTS_GOLDEN_ASK_H_
