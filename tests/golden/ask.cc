#include "tests/golden/ask.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "tools/reference_cases/answers.h"

namespace sluice::golden {

absl::StatusOr<Json> Ask(absl::string_view topic, const Json& question) {
  absl::StatusOr<Json> answer = reference_cases::Answer(topic, question);
  if (!answer.ok() &&
      absl::StrContains(answer.status().message(), "[json.exception.")) {
    return absl::InternalError(answer.status().message());
  }
  return answer;
}

std::optional<Json> AnswerToCase(absl::string_view topic, CaseCheck& check) {
  absl::StatusOr<Json> answer = Ask(topic, check.golden());
  if (absl::IsInternal(answer.status())) {
    check.Fail(std::string(answer.status().message()));
    return std::nullopt;
  }
  if (check.ExpectsRefusal()) {
    check.Refused(answer.status());
    return std::nullopt;
  }
  if (!check.Ok("answer", answer.status())) return std::nullopt;
  return *std::move(answer);
}

void CompareMembers(std::initializer_list<const char*> members,
                    const Json& expected, const Json& answer,
                    CaseCheck& check) {
  for (const char* member : members) {
    check.Equal(member, expected.at(member), answer.at(member));
  }
}

}  // namespace sluice::golden
