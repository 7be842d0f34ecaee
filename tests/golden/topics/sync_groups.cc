// Topic sync_groups. The reference drops some pairs of a round when it runs it
// (C1); all are here.

#include "tests/golden/ask.h"
#include "tests/golden/topics.h"

namespace sluice::golden {

void CheckSyncGroups(CaseCheck& check) {
  const std::optional<Json> answer = AnswerToCase("sync_groups", check);
  if (!answer.has_value()) return;
  for (const auto& item : answer->items()) {
    check.Equal(item.key(), check.golden().at(item.key()), item.value());
  }
}

}  // namespace sluice::golden
