#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_SAMPLE_SPLIT_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_SAMPLE_SPLIT_H_

// Splitting a batch of samples into parts with about equal work: between
// data-parallel ranks, or into micro-batches. As AReaL's SequenceSample.split
// and split_with_lengths (realhf/api/core/data_api.py), with a better balance
// as the default.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "coordinator/planner/reference/datapack.h"

namespace sluice::coordinator::reference {

// "No limit" as the reference has it: more than any batch.
inline constexpr int64_t kNoTokenLimit = 1'000'000'000'000;

enum class SplitRule {
  // The better of the reference's division and largest differencing into as
  // many parts: the one whose largest part is smaller, the reference's where
  // they are equal.
  kBalanced,
  // The reference's: balances the number of samples first, tokens second.
  kReference,
};

struct SplitSpec {
  int32_t min_parts = 1;
  int64_t max_tokens = kNoTokenLimit;  // per part
  SplitRule rule = SplitRule::kBalanced;
};

// Where samples go. Sample i of the new order was sample forward[i]; sample i
// of the old order is backward[i] in the new one.
struct SampleSplit {
  // Members ascending, groups in lexicographic order.
  Groups groups;
  std::vector<int32_t> forward;
  std::vector<int32_t> backward;
  Runs partitions;  // [begin, end) of the new order, one per group
};

// Splits samples by their lengths in tokens; give 1 for each to split by count,
// as for generation, whose work is not known beforehand.
// Errors: INVALID_ARGUMENT - a length below 0 or above max_tokens, min_parts
// below 0 or above the number of samples.
absl::StatusOr<SampleSplit> SplitSamples(absl::Span<const int64_t> lengths,
                                         const SplitSpec& spec);

// Returns the order and partitions that groups mean, having sorted them.
SampleSplit SplitOf(Groups groups);

// Lengths of every sequence of every sample of one key.
struct KeyLengths {
  std::string key;
  std::vector<std::vector<int64_t>> sequences;  // by sample
};

// Returns the position of the key with the most tokens; the first of equals.
// Its lengths are what a batch of several keys is split by.
// Errors: INVALID_ARGUMENT - no key.
absl::StatusOr<size_t> SplitKey(absl::Span<const KeyLengths> keys);
// Returns each sample's tokens of one key.
std::vector<int64_t> SampleLengths(const KeyLengths& key);

// Returns the largest sum of a group; 0 without groups.
int64_t LargestSum(const Groups& groups, absl::Span<const int64_t> lengths);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_SAMPLE_SPLIT_H_
