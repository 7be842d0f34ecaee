// Topic datapack.

#include "coordinator/planner/reference/datapack.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/planner/reference/largest_differencing.h"
#include "coordinator/planner/reference/sample_split.h"
#include "tests/golden/ask.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

namespace reference = coordinator::reference;
using reference::Groups;

// The case, asked by Sluice's own rule.
absl::StatusOr<Json> AskBalanced(const CaseCheck& check) {
  Json question = check.golden();
  question["rule"] = "balanced";
  return Ask("datapack", question);
}

Json SumsAndSizes(const Groups& groups, const std::vector<int64_t>& values) {
  std::vector<std::pair<int64_t, int64_t>> all;
  for (const std::vector<int32_t>& group : groups) {
    all.emplace_back(reference::LargestSum({group}, values),
                     static_cast<int64_t>(group.size()));
  }
  std::sort(all.begin(), all.end());
  return all;
}

void CheckAllocation(const Json& answer, CaseCheck& check) {
  const Json& golden = check.golden();
  const std::vector<int64_t> values = golden.at("values");
  const Groups groups = answer.at("groups");
  const Json& right = check.right();
  CompareMembers({"groups"}, right.contains("groups") ? right : golden, answer,
                 check);
  if (!check.HasBug()) {
    check.Equal("group_sum_size_multiset", golden.at("group_sum_size_multiset"),
                SumsAndSizes(groups, values));
  }
  if (values.empty()) return;
  // The default division is never worse than the reference's, and better where
  // largest differencing is.
  const auto other = reference::LargestDifferencing(
      values, static_cast<int32_t>(groups.size()));
  const absl::StatusOr<Json> balanced = AskBalanced(check);
  if (!check.Ok("differencing", other.status()) ||
      !check.Ok("balanced", balanced.status())) {
    return;
  }
  check.Equal(
      "largest sum of the default division",
      std::min(reference::LargestSum(groups, values),
               reference::LargestSum(*other, values)),
      reference::LargestSum(balanced->at("groups").get<Groups>(), values));
}

int64_t Difference(const Json& runs, const std::vector<int64_t>& values) {
  std::vector<int64_t> sums;
  for (const auto& [first, last] : runs.get<reference::Runs>()) {
    int64_t& sum = sums.emplace_back();
    for (int32_t i = first; i < last; ++i)
      sum += values[static_cast<size_t>(i)];
  }
  if (sums.empty()) return 0;
  return *std::max_element(sums.begin(), sums.end()) -
         *std::min_element(sums.begin(), sums.end());
}

void CheckPartition(const Json& answer, CaseCheck& check) {
  const Json& golden = check.golden();
  if (!check.HasBug()) {
    return CompareMembers({"partitions"}, golden, answer, check);
  }
  // Where the reference misses the least difference (D3).
  const std::vector<int64_t> values = golden.at("nums");
  const absl::StatusOr<Json> best = AskBalanced(check);
  if (!check.Ok("least difference", best.status())) return;
  const int64_t least = Difference(best->at("partitions"), values);
  const Json& right = check.right();
  if (right.contains("partitions")) {
    check.Equal("difference", Difference(right["partitions"], values), least);
  }
  check.True("no worse than the reference",
             least <= Difference(answer.at("partitions"), values));
}

}  // namespace

void CheckDatapack(CaseCheck& check) {
  const std::optional<Json> answer = AnswerToCase("datapack", check);
  if (!answer.has_value()) return;
  if (answer->contains("groups")) return CheckAllocation(*answer, check);
  if (answer->contains("partitions")) return CheckPartition(*answer, check);
  CompareMembers({"indices", "max_diff"}, check.golden(), *answer, check);
}

}  // namespace sluice::golden
