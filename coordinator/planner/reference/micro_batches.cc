#include "coordinator/planner/reference/micro_batches.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::coordinator::reference {
namespace {

size_t At(int32_t i) { return static_cast<size_t>(i); }

std::vector<int64_t> Pick(absl::Span<const int64_t> lengths,
                          const std::vector<int32_t>& samples) {
  std::vector<int64_t> picked;
  picked.reserve(samples.size());
  for (const int32_t i : samples) picked.push_back(lengths[At(i)]);
  return picked;
}

// Cuts some samples into at least `min_parts` micro-batches.
absl::StatusOr<Groups> Cut(absl::Span<const int64_t> lengths,
                           const std::vector<int32_t>& samples,
                           const MicroBatchSpec& spec, int32_t min_parts) {
  const std::vector<int64_t> own = Pick(lengths, samples);
  SLUICE_ASSIGN_OR_RETURN(
      SampleSplit split,
      SplitSamples(own, {min_parts, spec.max_tokens, spec.rule}));
  for (std::vector<int32_t>& group : split.groups) {
    for (int32_t& i : group) i = samples[At(i)];
  }
  return std::move(split.groups);
}

absl::StatusOr<MicroBatches> CutShares(absl::Span<const int64_t> lengths,
                                       const Groups& shares,
                                       const MicroBatchSpec& spec,
                                       int32_t min_parts) {
  MicroBatches batches;
  for (const std::vector<int32_t>& share : shares) {
    SLUICE_ASSIGN_OR_RETURN(Groups groups,
                            Cut(lengths, share, spec, min_parts));
    batches.ranks.push_back(std::move(groups));
  }
  return batches;
}

int32_t MostMicroBatches(const MicroBatches& batches) {
  size_t most = 0;
  for (const Groups& groups : batches.ranks) {
    most = std::max(most, groups.size());
  }
  return static_cast<int32_t>(most);
}

// Deals micro-batches, the largest first, to the rank with the fewest tokens
// that has room for another.
MicroBatches Deal(absl::Span<const int64_t> lengths, Groups groups,
                  int32_t num_ranks, int32_t per_rank) {
  std::vector<int64_t> sums;
  for (const std::vector<int32_t>& group : groups) {
    sums.push_back(LargestSum({group}, lengths));
  }
  MicroBatches batches;
  batches.ranks.resize(At(num_ranks));
  std::set<std::pair<int64_t, size_t>> ranking;  // (tokens, rank)
  for (size_t rank = 0; rank < At(num_ranks); ++rank) ranking.emplace(0, rank);
  for (const int32_t g : DescendingOrder(sums)) {
    const auto [tokens, rank] = *ranking.begin();
    ranking.erase(ranking.begin());
    batches.ranks[rank].push_back(std::move(groups[At(g)]));
    if (batches.ranks[rank].size() < At(per_rank)) {
      ranking.emplace(tokens + sums[At(g)], rank);
    }
  }
  for (Groups& own : batches.ranks) std::sort(own.begin(), own.end());
  return batches;
}

// Cuts the whole batch into a multiple of num_ranks micro-batches.
absl::StatusOr<MicroBatches> CutWhole(absl::Span<const int64_t> lengths,
                                      const MicroBatchSpec& spec) {
  const auto num_samples = static_cast<int32_t>(lengths.size());
  int64_t total = 0;
  for (const int64_t length : lengths) total += length;
  // No fewer can hold all tokens.
  const int64_t least =
      spec.max_tokens == 0 ? 1 : (total - 1) / spec.max_tokens / spec.num_ranks;
  for (auto per_rank = static_cast<int32_t>(
           std::clamp<int64_t>(least, spec.min_micro_batches, num_samples));
       per_rank <= num_samples / spec.num_ranks; ++per_rank) {
    const int32_t wanted = per_rank * spec.num_ranks;
    SLUICE_ASSIGN_OR_RETURN(
        SampleSplit split,
        SplitSamples(lengths, {wanted, spec.max_tokens, spec.rule}));
    if (split.groups.size() == At(wanted)) {
      return Deal(lengths, std::move(split.groups), spec.num_ranks, per_rank);
    }
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "micro-batches: expected samples for an equal number of micro-batches of "
      "at most ",
      spec.max_tokens, " tokens on ", spec.num_ranks, " ranks, found ",
      num_samples, " samples"));
}

absl::Status Check(absl::Span<const int64_t> lengths,
                   const MicroBatchSpec& spec) {
  if (spec.num_ranks < 1 || spec.min_micro_batches < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "micro-batches: expected at least one rank and one micro-batch, found ",
        spec.num_ranks, " and ", spec.min_micro_batches));
  }
  if (lengths.size() / At(spec.num_ranks) < At(spec.min_micro_batches)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "micro-batches: expected at least ", spec.num_ranks, " x ",
        spec.min_micro_batches, " samples, found ", lengths.size()));
  }
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] < 0 || lengths[i] > spec.max_tokens) {
      return absl::InvalidArgumentError(
          absl::StrCat("micro-batches: sample ", i, ": expected [0, ",
                       spec.max_tokens, "] tokens, found ", lengths[i]));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<MicroBatches> SplitMicroBatches(
    absl::Span<const int64_t> lengths, const MicroBatchSpec& spec) {
  SLUICE_RETURN_IF_ERROR(Check(lengths, spec));
  SLUICE_ASSIGN_OR_RETURN(
      const SampleSplit shares,
      SplitSamples(lengths, {spec.num_ranks,
                             std::numeric_limits<int64_t>::max(), spec.rule}));
  int32_t wanted = spec.min_micro_batches;
  // Cutting into more parts than before may come to more still.
  for (;;) {
    for (const std::vector<int32_t>& share : shares.groups) {
      if (share.size() < At(wanted)) return CutWhole(lengths, spec);
    }
    SLUICE_ASSIGN_OR_RETURN(MicroBatches batches,
                            CutShares(lengths, shares.groups, spec, wanted));
    const int32_t most = MostMicroBatches(batches);
    if (!spec.equal_numbers || most == wanted) return batches;
    wanted = most;
  }
}

}  // namespace sluice::coordinator::reference
