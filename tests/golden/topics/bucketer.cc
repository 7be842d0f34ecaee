// Topic bucketer: what goes when, and by simulating all ranks, that each result
// lands where its request says.

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/golden/ask.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

// Long results are recorded by their ends.
Json LikeRecorded(const Json& recorded, Json result) {
  if (recorded.contains("values")) return result;
  const Json values = result["values"];
  result.erase("values");
  result["first8"] = Json::array();
  result["last8"] = Json::array();
  const size_t n = values.size();
  for (size_t i = 0; i < std::min<size_t>(n, 8); ++i) {
    result["first8"].push_back(values[i]);
    result["last8"].push_back(values[n - std::min<size_t>(n, 8) + i]);
  }
  return result;
}

void CompareResults(const Json& expected, const Json& found, CaseCheck& check) {
  check.Equal("ranks", expected.size(), found.size());
  for (size_t rank = 0; rank < std::min(expected.size(), found.size());
       ++rank) {
    Json like = found[rank];
    for (size_t k = 0; k < std::min(like.size(), expected[rank].size()); ++k) {
      like[k] = LikeRecorded(expected[rank][k], like[k]);
    }
    check.Equal(absl::StrCat("results_by_rank[", rank, "]"), expected[rank],
                like);
  }
}

// Where the reference is wrong: every callback that was asked for before the
// last flush has fired, once.
void CheckAllFired(const Json& answer, CaseCheck& check) {
  std::set<int64_t> fired;
  for (const Json& callback : answer.at("callback_order")) {
    check.True(
        "a callback fires once",
        fired.insert(callback.at("callback_of_op").get<int64_t>()).second);
  }
  const Json& ops = check.golden().at("ops");
  size_t last_flush = 0;
  for (size_t i = 0; i < ops.size(); ++i) {
    if (ops[i].at("op") == "flush") last_flush = i;
  }
  for (size_t i = 0; i < last_flush; ++i) {
    if (ops[i].value("callback", Json(false)) == true) {
      check.True(absl::StrCat("the callback of operation ", i, " fires"),
                 fired.count(static_cast<int64_t>(i)) == 1);
    }
  }
}

// Group of a callback's operation, or of a collective.
std::string GroupOf(const Json& item, const Json& ops) {
  if (item.is_object() && item.contains("group")) return item["group"];
  const size_t op = item.is_object() ? item.at("callback_of_op").get<size_t>()
                                     : item.get<size_t>();
  return absl::StrCat("g", ops.at(op).at("group").get<int64_t>());
}

// Puts what has no order between groups into an order.
void SortByGroup(const Json& ops, Json& items) {
  std::vector<Json> sorted = items;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](const Json& a, const Json& b) {
                     return GroupOf(a, ops) < GroupOf(b, ops);
                   });
  items = sorted;
}

Json SortedByGroup(const Json& ops, Json answer) {
  for (Json& event : answer.at("events")) {
    SortByGroup(ops, event.at("callbacks_fired"));
    SortByGroup(ops, event.at("collectives"));
  }
  SortByGroup(ops, answer.at("callback_order"));
  for (Json& results : answer.at("results_by_rank")) {
    std::vector<Json> sorted = results;
    std::stable_sort(
        sorted.begin(), sorted.end(), [&](const Json& a, const Json& b) {
          return GroupOf(a.at("op"), ops) < GroupOf(b.at("op"), ops);
        });
    results = sorted;
  }
  return answer;
}

}  // namespace

void CompareBucketerOnAgents(const Json& answer, CaseCheck& check) {
  if (check.HasBug()) return CheckAllFired(answer, check);
  const Json& ops = check.golden().at("ops");
  const Json expected = SortedByGroup(ops, check.golden().at("expect"));
  const Json found = SortedByGroup(ops, answer);
  for (const char* member : {"events", "callback_order"}) {
    check.Equal(absl::StrCat("real agents: ", member), expected.at(member),
                found.at(member));
  }
  CompareResults(expected.at("results_by_rank"), found.at("results_by_rank"),
                 check);
}

void CheckBucketer(CaseCheck& check) {
  const std::optional<Json> answer = AnswerToCase("bucketer", check);
  if (!answer.has_value()) return;
  if (check.HasBug()) return CheckAllFired(*answer, check);
  const Json& expected = check.golden().at("expect");
  CompareMembers({"events", "callback_order", "final_buckets"}, expected,
                 *answer, check);
  CompareResults(expected.at("results_by_rank"), answer->at("results_by_rank"),
                 check);
}

}  // namespace sluice::golden
