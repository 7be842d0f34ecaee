// Topic split.

#include <algorithm>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/planner/reference/datapack.h"
#include "coordinator/planner/reference/largest_differencing.h"
#include "coordinator/planner/reference/sample_split.h"
#include "tests/golden/ask.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

namespace reference = coordinator::reference;
using reference::Groups;

// The groups' members by their place in the batch.
Groups GroupsOf(const Json& answer) {
  const std::vector<int32_t> forward = answer.at("forward_indices");
  Groups groups;
  for (const auto& [first, last] :
       answer.at("partitions").get<reference::Runs>()) {
    groups.emplace_back(forward.begin() + first, forward.begin() + last);
  }
  return groups;
}

Json InNewOrder(const Json& answer, const Json& all) {
  Json picked = Json::array();
  for (const size_t i : answer.at("forward_indices")) {
    picked.push_back(all.at(i));
  }
  return picked;
}

Json SumsAndSizes(const Groups& groups, const std::vector<int64_t>& lengths) {
  std::vector<std::vector<int64_t>> all;
  for (const std::vector<int32_t>& group : groups) {
    all.push_back({reference::LargestSum({group}, lengths),
                   static_cast<int64_t>(group.size())});
  }
  std::sort(all.begin(), all.end());
  return all;
}

// The same batch for as many data-parallel indices.
void CompareDispatch(CaseCheck& check) {
  const Json& golden = check.golden();
  if (!golden.contains("dispatch")) return;
  Json question = golden;
  question.erase("max_tokens_per_mb");
  const absl::StatusOr<Json> answer = Ask("split", question);
  if (!check.Ok("dispatch", answer.status())) return;
  const Json& expected = golden["dispatch"];
  check.Equal("dispatch.buf_indices_out", expected.at("buf_indices_out"),
              InNewOrder(*answer, expected.at("buf_indices_in")));
  check.Equal("dispatch.ids_out", expected.at("ids_out"),
              InNewOrder(*answer, golden.at("ids")));
  check.Equal("dispatch.partitions", expected.at("partitions"),
              answer->at("partitions"));
}

// The default is never worse, and better where largest differencing is.
void CompareBalance(const Groups& groups, const std::vector<int64_t>& lengths,
                    CaseCheck& check) {
  Json question = check.golden();
  question["rule"] = "balanced";
  const absl::StatusOr<Json> balanced = Ask("split", question);
  const auto other = reference::LargestDifferencing(
      lengths, static_cast<int32_t>(groups.size()));
  if (!check.Ok("balanced", balanced.status()) ||
      !check.Ok("differencing", other.status())) {
    return;
  }
  check.Equal("largest sum of the default division",
              std::min(reference::LargestSum(groups, lengths),
                       reference::LargestSum(*other, lengths)),
              reference::LargestSum(GroupsOf(*balanced), lengths));
}

}  // namespace

void CheckSplit(CaseCheck& check) {
  const std::optional<Json> answer = AnswerToCase("split", check);
  if (!answer.has_value()) return;
  const Json& golden = check.golden();
  CompareMembers({"split_key", "lens", "forward_indices", "backward_indices",
                  "sizes", "partitions", "group_ids"},
                 golden, *answer, check);
  const std::vector<int64_t> lengths = answer->at("lens");
  const Groups groups = GroupsOf(*answer);
  check.Equal("group_sum_size_multiset", golden.at("group_sum_size_multiset"),
              SumsAndSizes(groups, lengths));
  CompareDispatch(check);
  CompareBalance(groups, lengths, check);
}

}  // namespace sluice::golden
