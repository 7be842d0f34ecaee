// Topic topology.

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "tests/golden/ask.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

// Long lists are recorded by their number and their ends.
void CheckCommLists(const Json& answer, CaseCheck& check) {
  for (const auto& item : check.golden().at("comm_lists").items()) {
    absl::string_view axis = item.key();
    const bool count = absl::ConsumeSuffix(&axis, "@count");
    const bool ends = absl::ConsumeSuffix(&axis, "@first3last3");
    Json lists = answer.at("comm_lists").at(std::string(axis));
    if (count) {
      check.Equal(item.key(), item.value(), lists.size());
      continue;
    }
    if (ends && lists.size() > 6) {
      lists.erase(lists.begin() + 3, lists.end() - 3);
    }
    check.Equal(item.key(), item.value(), lists);
  }
}

void CheckQuery(size_t i, const Json& answered, CaseCheck& check) {
  const Json& query = check.golden().at("queries").at(i);
  const std::string what =
      absl::StrCat("queries[", i, "] ", query.at("op").get<std::string>());
  const std::string error = answered.value("error", "");
  if (absl::StrContains(error, "op: expected")) return check.Fail(error);
  if (query.contains("error")) {
    check.True(absl::StrCat(what, " is refused"), !error.empty());
  } else if (!error.empty()) {
    check.Fail(absl::StrCat(what, ": expected an answer, found ", error));
  } else {
    check.Equal(what, query.at("result"), answered.at("result"));
  }
}

}  // namespace

void CheckTopology(CaseCheck& check) {
  const std::optional<Json> answer = AnswerToCase("topology", check);
  if (!answer.has_value()) return;
  const Json& golden = check.golden();
  CompareMembers({"world_size"}, golden, *answer, check);
  if (golden.contains("coords")) {
    CompareMembers({"coords"}, golden, *answer, check);
  }
  for (const Json& sample : golden.value("coord_samples", Json::array())) {
    const size_t rank = sample.at(0);
    check.Equal(absl::StrCat("coordinate of ", rank), sample.at(1),
                answer->at("coords").at(rank));
  }
  CheckCommLists(*answer, check);
  for (size_t i = 0; i < golden.at("queries").size(); ++i) {
    CheckQuery(i, answer->at("queries").at(i), check);
  }
}

}  // namespace sluice::golden
