#include "coordinator/planner/reference/sample_split.h"

#include <algorithm>
#include <numeric>

#include "absl/status/status.h"
#include "common/status_macros.h"
#include "coordinator/planner/reference/largest_differencing.h"

namespace sluice::coordinator::reference {

int64_t LargestSum(const Groups& groups, absl::Span<const int64_t> lengths) {
  int64_t largest = 0;
  for (const std::vector<int32_t>& group : groups) {
    int64_t sum = 0;
    for (const int32_t i : group) sum += lengths[static_cast<size_t>(i)];
    largest = std::max(largest, sum);
  }
  return largest;
}

SampleSplit SplitOf(Groups groups) {
  SampleSplit split;
  for (std::vector<int32_t>& group : groups) {
    std::sort(group.begin(), group.end());
  }
  std::sort(groups.begin(), groups.end());
  split.groups = std::move(groups);
  for (const std::vector<int32_t>& group : split.groups) {
    const auto begin = static_cast<int32_t>(split.forward.size());
    split.forward.insert(split.forward.end(), group.begin(), group.end());
    split.partitions.emplace_back(begin,
                                  static_cast<int32_t>(split.forward.size()));
  }
  split.backward.resize(split.forward.size());
  for (size_t i = 0; i < split.forward.size(); ++i) {
    split.backward[static_cast<size_t>(split.forward[i])] =
        static_cast<int32_t>(i);
  }
  return split;
}

absl::StatusOr<SampleSplit> SplitSamples(absl::Span<const int64_t> lengths,
                                         const SplitSpec& spec) {
  SLUICE_ASSIGN_OR_RETURN(
      Groups groups,
      FirstFitDecreasing(lengths, spec.max_tokens, spec.min_parts));
  if (spec.rule == SplitRule::kBalanced && !groups.empty()) {
    SLUICE_ASSIGN_OR_RETURN(
        Groups other,
        LargestDifferencing(lengths, static_cast<int32_t>(groups.size())));
    // A smaller largest part is within the limit too.
    if (LargestSum(other, lengths) < LargestSum(groups, lengths)) {
      groups = std::move(other);
    }
  }
  return SplitOf(std::move(groups));
}

absl::StatusOr<size_t> SplitKey(absl::Span<const KeyLengths> keys) {
  if (keys.empty()) {
    return absl::InvalidArgumentError("split: expected a key, found none");
  }
  size_t best = 0;
  int64_t most = -1;
  for (size_t k = 0; k < keys.size(); ++k) {
    const std::vector<int64_t> lengths = SampleLengths(keys[k]);
    const int64_t total =
        std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
    if (total <= most) continue;
    most = total;
    best = k;
  }
  return best;
}

std::vector<int64_t> SampleLengths(const KeyLengths& key) {
  std::vector<int64_t> lengths;
  lengths.reserve(key.sequences.size());
  for (const std::vector<int64_t>& sequences : key.sequences) {
    lengths.push_back(
        std::accumulate(sequences.begin(), sequences.end(), int64_t{0}));
  }
  return lengths;
}

}  // namespace sluice::coordinator::reference
