#include "tests/property/random_redistribution.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace sluice::testing {
namespace {

std::vector<Rank> RandomRanks(Rng& rng, int32_t num_ranks, int64_t count) {
  std::set<Rank> ranks;
  for (int64_t i = 0; i < count; ++i) {
    ranks.insert(Rank(static_cast<int32_t>(Draw(rng, 0, num_ranks - 1))));
  }
  return {ranks.begin(), ranks.end()};
}

}  // namespace

coordinator::RedistributionInput RandomRedistribution(Rng& rng) {
  coordinator::RedistributionInput input;
  const auto num_ranks = static_cast<int32_t>(Draw(rng, 1, 12));
  const int64_t nodes = Draw(rng, 1, 4);
  for (int32_t r = 0; r < num_ranks; ++r) {
    input.topology.node_of_rank.push_back(
        static_cast<int32_t>(Draw(rng, 0, nodes - 1)));
  }
  const int64_t samples = Draw(rng, 0, 24);
  const int64_t keys = Draw(rng, 1, 3);
  // Few different sets, as in real jobs, so that tensors group.
  std::vector<std::vector<Rank>> holder_sets, wanted_sets;
  for (int i = 0; i < 4; ++i) {
    holder_sets.push_back(RandomRanks(rng, num_ranks, Draw(rng, 1, 3)));
    wanted_sets.push_back(RandomRanks(rng, num_ranks, Draw(rng, 0, 8)));
  }
  for (int64_t s = 0; s < samples; ++s) {
    const std::vector<Rank>& wanted =
        wanted_sets[static_cast<size_t>(Draw(rng, 0, 3))];
    for (int64_t k = 0; k < keys; ++k) {
      coordinator::SampleHolding holding;
      holding.entry.sample_id = absl::StrCat("s", 100 + s);
      holding.entry.key = absl::StrCat("key", k);
      holding.entry.dtype = k == 0 ? DType::kI32 : DType::kBF16;
      if (k == 2) holding.entry.trailing_shape = {3};
      for (int64_t n = Draw(rng, 0, 2); n >= 0; --n) {
        holding.entry.sequence_lengths.push_back(Draw(rng, 0, 600'000));
      }
      holding.holders = holder_sets[static_cast<size_t>(Draw(rng, 0, 3))];
      holding.owner = holding.holders[static_cast<size_t>(
          Draw(rng, 0, std::ssize(holding.holders) - 1))];
      input.holdings.push_back(std::move(holding));
      input.wanted.push_back(
          Draw(rng, 0, 4) > 0 ? wanted : RandomRanks(rng, num_ranks, 2));
    }
  }
  using coordinator::Pattern;
  const Pattern patterns[] = {Pattern::kDirect, Pattern::kGatherScatter,
                              Pattern::kBroadcast};
  input.pattern = patterns[Draw(rng, 0, 2)];
  return input;
}

}  // namespace sluice::testing
