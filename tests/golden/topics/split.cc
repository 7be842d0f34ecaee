// Topic split.

#include <algorithm>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/planner/reference/largest_differencing.h"
#include "coordinator/planner/reference/sample_split.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

namespace reference = coordinator::reference;
using reference::KeyLengths;
using reference::SampleSplit;

template <typename T>
std::vector<T> InNewOrder(const SampleSplit& split, const std::vector<T>& all) {
  std::vector<T> picked;
  for (const int32_t i : split.forward) {
    picked.push_back(all[static_cast<size_t>(i)]);
  }
  return picked;
}

Json SumsAndSizes(const SampleSplit& split,
                  const std::vector<int64_t>& lengths) {
  std::vector<std::vector<int64_t>> all;
  for (const std::vector<int32_t>& group : split.groups) {
    all.push_back({reference::LargestSum({group}, lengths),
                   static_cast<int64_t>(group.size())});
  }
  std::sort(all.begin(), all.end());
  return all;
}

void CompareSplit(const SampleSplit& split, const std::vector<int64_t>& lengths,
                  CaseCheck& check) {
  const Json& golden = check.golden();
  const std::vector<std::string> ids = golden.at("ids");
  std::vector<size_t> sizes;
  Json group_ids = Json::array();
  for (const std::vector<int32_t>& group : split.groups) {
    sizes.push_back(group.size());
    Json& of_group = group_ids.emplace_back(Json::array());
    for (const int32_t i : group) {
      of_group.push_back(ids[static_cast<size_t>(i)]);
    }
  }
  check.Equal("forward_indices", golden.at("forward_indices"), split.forward);
  check.Equal("backward_indices", golden.at("backward_indices"),
              split.backward);
  check.Equal("sizes", golden.at("sizes"), sizes);
  check.Equal("partitions", golden.at("partitions"), split.partitions);
  check.Equal("group_ids", golden.at("group_ids"), group_ids);
  check.Equal("group_sum_size_multiset", golden.at("group_sum_size_multiset"),
              SumsAndSizes(split, lengths));
}

// The same batch for as many data-parallel indices.
void CompareDispatch(const std::vector<int64_t>& lengths, CaseCheck& check) {
  const Json& golden = check.golden();
  if (!golden.contains("dispatch")) return;
  const absl::StatusOr<SampleSplit> split = reference::SplitSamples(
      lengths, {golden.at("n_mbs"), reference::kNoTokenLimit,
                reference::SplitRule::kReference});
  if (!check.Ok("dispatch", split.status())) return;
  const Json& expected = golden["dispatch"];
  check.Equal(
      "dispatch.buf_indices_out", expected.at("buf_indices_out"),
      InNewOrder(*split,
                 expected.at("buf_indices_in").get<std::vector<int64_t>>()));
  check.Equal(
      "dispatch.ids_out", expected.at("ids_out"),
      InNewOrder(*split, golden.at("ids").get<std::vector<std::string>>()));
  check.Equal("dispatch.partitions", expected.at("partitions"),
              split->partitions);
}

// The default is never worse, and better where largest differencing is.
void CompareBalance(const SampleSplit& split,
                    const std::vector<int64_t>& lengths, CaseCheck& check) {
  const Json& golden = check.golden();
  const auto balanced = reference::SplitSamples(
      lengths, {golden.at("n_mbs"), golden.at("max_tokens_per_mb"),
                reference::SplitRule::kBalanced});
  const auto other = reference::LargestDifferencing(
      lengths, static_cast<int32_t>(split.groups.size()));
  if (!check.Ok("balanced", balanced.status()) ||
      !check.Ok("differencing", other.status())) {
    return;
  }
  check.Equal("largest sum of the default division",
              std::min(reference::LargestSum(split.groups, lengths),
                       reference::LargestSum(*other, lengths)),
              reference::LargestSum(balanced->groups, lengths));
}

}  // namespace

void CheckSplit(CaseCheck& check) {
  const Json& golden = check.golden();
  std::vector<KeyLengths> keys;
  for (const Json& entry : golden.at("seqlens")) {
    keys.push_back({entry.at(0), entry.at(1)});
  }
  const absl::StatusOr<size_t> key = reference::SplitKey(keys);
  if (!check.Ok("split_key", key.status())) return;
  std::vector<int64_t> lengths = reference::SampleLengths(keys[*key]);
  if (golden.at("mode") == "by_count") {
    lengths.assign(lengths.size(), 1);
  }
  const absl::StatusOr<SampleSplit> split = reference::SplitSamples(
      lengths, {golden.at("n_mbs"), golden.at("max_tokens_per_mb"),
                reference::SplitRule::kReference});
  if (check.ExpectsRefusal()) return check.Refused(split.status());
  if (!check.Ok("split", split.status())) return;
  check.Equal("split_key", golden.at("split_key"), keys[*key].key);
  check.Equal("lens", golden.at("lens"), lengths);
  CompareSplit(*split, lengths, check);
  CompareDispatch(lengths, check);
  CompareBalance(*split, lengths, check);
}

}  // namespace sluice::golden
