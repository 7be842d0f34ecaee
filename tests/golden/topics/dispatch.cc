// Topic dispatch: calls on one storage, from the split to the outputs.

#include "absl/strings/str_cat.h"
#include "tests/golden/ask.h"
#include "tests/golden/topics.h"

namespace sluice::golden {

void CheckDispatch(CaseCheck& check) {
  const std::optional<Json> answer = AnswerToCase("dispatch", check);
  if (!answer.has_value()) return;
  const Json& calls = check.golden().at("rpcs");
  check.Equal("calls", calls.size(), answer->at("rpcs").size());
  for (size_t i = 0; i < calls.size(); ++i) {
    const Json& right = calls[i].value("right", Json::object());
    for (const auto& item : answer->at("rpcs").at(i).items()) {
      // The reference gathers copies of who does not own them (A6).
      const bool owners_only =
          item.key() == "plan" && right.contains("plan_owner_only");
      check.Equal(
          absl::StrCat("rpcs[", i, "].", item.key()),
          owners_only ? right.at("plan_owner_only") : calls[i].at(item.key()),
          item.value());
    }
  }
}

}  // namespace sluice::golden
