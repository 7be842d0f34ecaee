// Topic gather_scatter.

#include "tests/golden/ask.h"
#include "tests/golden/topics.h"
#include "tools/reference_cases/storage_json.h"

namespace sluice::golden {

using reference_cases::SortKeys;

void CheckGatherScatter(CaseCheck& check) {
  const std::optional<Json> answer = AnswerToCase("gather_scatter", check);
  if (!answer.has_value()) return;
  const Json& golden = check.golden();
  // The reference gathers copies of who does not own them (A6).
  check.Equal("plan",
              check.right().value(
                  "plan_owner_only",
                  check.right().value("plan", golden.value("plan", Json()))),
              answer->at("plan"));
  if (!golden.contains("tracker_after")) return;
  if (check.HasBug()) {
    // Other steps bring the same keys in another order.
    check.Equal("tracker_after", SortKeys(golden["tracker_after"]),
                SortKeys(answer->at("tracker_after")));
  } else {
    CompareMembers({"tracker_after"}, golden, *answer, check);
  }
}

}  // namespace sluice::golden
