// Topic storage.

#include "tests/golden/ask.h"
#include "tests/golden/topics.h"

namespace sluice::golden {

void CheckStorage(CaseCheck& check) {
  const std::optional<Json> answer = AnswerToCase("storage", check);
  if (!answer.has_value()) return;
  CompareMembers({"checkpoints", "final"}, check.golden(), *answer, check);
}

}  // namespace sluice::golden
