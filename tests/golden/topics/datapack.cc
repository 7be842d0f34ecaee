// Topic datapack.

#include "coordinator/planner/reference/datapack.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/planner/reference/largest_differencing.h"
#include "coordinator/planner/reference/sample_split.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

namespace reference = coordinator::reference;
using reference::Groups;
using reference::Runs;

Json SumsAndSizes(const Groups& groups, const std::vector<int64_t>& values) {
  std::vector<std::pair<int64_t, int64_t>> all;
  for (const std::vector<int32_t>& group : groups) {
    int64_t sum = 0;
    for (const int32_t i : group) sum += values[static_cast<size_t>(i)];
    all.emplace_back(sum, static_cast<int64_t>(group.size()));
  }
  std::sort(all.begin(), all.end());
  return all;
}

void CheckAllocation(CaseCheck& check) {
  const Json& golden = check.golden();
  const std::vector<int64_t> values = golden.at("values");
  const int64_t capacity = golden.at("capacity");
  const absl::StatusOr<Groups> groups =
      reference::FirstFitDecreasing(values, capacity, golden.at("min_groups"));
  if (check.ExpectsRefusal()) return check.Refused(groups.status());
  if (!check.Ok("groups", groups.status())) return;
  const Json& right = check.right();
  check.Equal("groups",
              right.contains("groups") ? right["groups"] : golden.at("groups"),
              *groups);
  if (!check.HasBug()) {
    check.Equal("group_sum_size_multiset", golden.at("group_sum_size_multiset"),
                SumsAndSizes(*groups, values));
  }
  if (values.empty()) return;
  // The default division is never worse than the reference's, and better where
  // largest differencing is.
  const auto parts = static_cast<int32_t>(groups->size());
  const auto other = reference::LargestDifferencing(values, parts);
  const auto split = reference::SplitSamples(
      values,
      {golden.at("min_groups"), capacity, reference::SplitRule::kBalanced});
  if (!check.Ok("differencing", other.status()) ||
      !check.Ok("split", split.status())) {
    return;
  }
  check.Equal("largest sum of the default division",
              std::min(reference::LargestSum(*groups, values),
                       reference::LargestSum(*other, values)),
              reference::LargestSum(split->groups, values));
}

int64_t Difference(const Runs& runs, const std::vector<int64_t>& values) {
  int64_t least = 0, most = 0;
  for (size_t r = 0; r < runs.size(); ++r) {
    int64_t sum = 0;
    for (int32_t i = runs[r].first; i < runs[r].second; ++i) {
      sum += values[static_cast<size_t>(i)];
    }
    least = r == 0 ? sum : std::min(least, sum);
    most = r == 0 ? sum : std::max(most, sum);
  }
  return most - least;
}

void CheckPartition(CaseCheck& check) {
  const Json& golden = check.golden();
  const std::vector<int64_t> values = golden.at("nums");
  const int32_t k = golden.at("k");
  const int32_t min_size = golden.at("min_size");
  const absl::StatusOr<Runs> runs =
      reference::MinDifferencePartition(values, k, min_size);
  if (check.ExpectsRefusal()) return check.Refused(runs.status());
  if (!check.Ok("partitions", runs.status())) return;
  if (!check.HasBug()) {
    check.Equal("partitions", golden.at("partitions"), *runs);
    return;
  }
  // Where the reference misses the least difference (D3).
  const absl::StatusOr<Runs> best =
      reference::LeastDifferencePartition(values, k, min_size);
  if (!check.Ok("least difference", best.status())) return;
  const Json& right = check.right();
  if (right.contains("partitions")) {
    check.Equal("difference",
                Difference(right["partitions"].get<Runs>(), values),
                Difference(*best, values));
  }
  check.True("no worse than the reference",
             Difference(*best, values) <= Difference(*runs, values));
}

void CheckBatches(CaseCheck& check) {
  const Json& golden = check.golden();
  const std::vector<int64_t> values = golden.at("seqlens");
  const auto batches = reference::ReorderToBalancedBatches(
      values, golden.at("n_seqs_per_batch"));
  if (check.ExpectsRefusal()) return check.Refused(batches.status());
  if (!check.Ok("batches", batches.status())) return;
  check.Equal("indices", golden.at("indices"), batches->indices);
  check.Equal("max_diff", golden.at("max_diff"), batches->max_difference);
}

}  // namespace

void CheckDatapack(CaseCheck& check) {
  const std::string fn = check.golden().at("fn");
  if (fn == "ffd_allocate") return CheckAllocation(check);
  if (fn == "min_abs_diff_partition") return CheckPartition(check);
  if (fn == "reorder_to_balanced_batches") return CheckBatches(check);
  check.Fail("unknown fn " + fn);
}

}  // namespace sluice::golden
