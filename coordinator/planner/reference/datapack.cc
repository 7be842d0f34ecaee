#include "coordinator/planner/reference/datapack.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <tuple>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::coordinator::reference {
namespace {

constexpr size_t kMaxExactValues = 64;

size_t At(int32_t i) { return static_cast<size_t>(i); }

std::vector<int64_t> PrefixSums(absl::Span<const int64_t> values) {
  std::vector<int64_t> sums(values.size() + 1);
  std::partial_sum(values.begin(), values.end(), sums.begin() + 1);
  return sums;
}

absl::Status CheckPartition(size_t num_values, int32_t k, int32_t min_size) {
  if (k < 1 || min_size < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "partition: expected at least one run of at least one value, found ", k,
        " of ", min_size));
  }
  if (num_values / At(k) < At(min_size)) {
    return absl::InvalidArgumentError(
        absl::StrCat("partition: expected at least ", k, " x ", min_size,
                     " values, found ", num_values));
  }
  return absl::OkStatus();
}

int64_t Difference(const Runs& runs, const std::vector<int64_t>& sums) {
  int64_t least = std::numeric_limits<int64_t>::max();
  int64_t most = std::numeric_limits<int64_t>::min();
  for (const auto& [begin, end] : runs) {
    least = std::min(least, sums[At(end)] - sums[At(begin)]);
    most = std::max(most, sums[At(end)] - sums[At(begin)]);
  }
  return most - least;
}

// Returns k runs with every sum in [low, high], the earliest cuts first; none
// if there are none.
std::optional<Runs> RunsWithin(const std::vector<int64_t>& sums, int32_t k,
                               int32_t min_size, int64_t low, int64_t high) {
  const auto n = static_cast<int32_t>(sums.size()) - 1;
  // can[j][i]: values [i, n) can be cut into j runs.
  std::vector<std::vector<bool>> can(At(k) + 1,
                                     std::vector<bool>(sums.size(), false));
  can[0][At(n)] = true;
  const auto fits = [&](int32_t begin, int32_t end) {
    const int64_t sum = sums[At(end)] - sums[At(begin)];
    return sum >= low && sum <= high;
  };
  for (int32_t j = 1; j <= k; ++j) {
    for (int32_t i = 0; i + min_size <= n; ++i) {
      for (int32_t end = i + min_size; end <= n && !can[At(j)][At(i)]; ++end) {
        can[At(j)][At(i)] = can[At(j) - 1][At(end)] && fits(i, end);
      }
    }
  }
  if (!can[At(k)][0]) return std::nullopt;
  Runs runs;
  int32_t begin = 0;
  for (int32_t j = k; j > 0; --j) {
    int32_t end = begin + min_size;
    while (!can[At(j) - 1][At(end)] || !fits(begin, end)) ++end;
    runs.emplace_back(begin, end);
    begin = end;
  }
  return runs;
}

}  // namespace

std::vector<int32_t> DescendingOrder(absl::Span<const int64_t> values) {
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return values[At(a)] > values[At(b)];
  });
  return order;
}

absl::StatusOr<Groups> FirstFitDecreasing(absl::Span<const int64_t> values,
                                          int64_t capacity,
                                          int32_t min_groups) {
  if (min_groups < 0 || values.size() < At(min_groups)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "allocation: expected a least number of groups of [0, ", values.size(),
        "] for as many values, found ", min_groups));
  }
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] > capacity) {
      return absl::InvalidArgumentError(
          absl::StrCat("allocation: value ", i, ": expected one of [0, ",
                       capacity, "], found ", values[i]));
    }
  }
  Groups groups;
  // (members, sum, number), so that the first with room is the one to join.
  std::set<std::tuple<size_t, int64_t, size_t>> ranking;
  for (const int32_t i : DescendingOrder(values)) {
    const int64_t value = values[At(i)];
    auto best = ranking.end();
    if (groups.size() >= At(min_groups)) {
      best = ranking.begin();
      while (best != ranking.end() && std::get<1>(*best) > capacity - value) {
        ++best;
      }
    }
    if (best == ranking.end()) {
      ranking.emplace(1, value, groups.size());
      groups.push_back({i});
      continue;
    }
    auto [members, sum, group] = *best;
    ranking.erase(best);
    ranking.emplace(members + 1, sum + value, group);
    groups[group].push_back(i);
  }
  return groups;
}

absl::StatusOr<Runs> MinDifferencePartition(absl::Span<const int64_t> values,
                                            int32_t k, int32_t min_size) {
  SLUICE_RETURN_IF_ERROR(CheckPartition(values.size(), k, min_size));
  const auto n = static_cast<int32_t>(values.size());
  const std::vector<int64_t> sums = PrefixSums(values);
  // Of the first i values in j runs: the least difference found, with the
  // largest and smallest sum it was found with and the last cut.
  struct State {
    bool reached = false;
    int64_t difference = 0, most = 0, least = 0;
    int32_t cut = 0;
  };
  std::vector<std::vector<State>> states(At(k) + 1,
                                         std::vector<State>(At(n) + 1));
  for (int32_t i = 0; i <= n; ++i) {
    states[1][At(i)] = {i >= min_size, 0, sums[At(i)], sums[At(i)], 0};
  }
  for (int32_t j = 2; j <= k; ++j) {
    for (int32_t i = j * min_size; i <= n; ++i) {
      State& state = states[At(j)][At(i)];
      for (int32_t cut = min_size; cut <= i - min_size; ++cut) {
        const State& before = states[At(j) - 1][At(cut)];
        if (!before.reached) continue;
        const int64_t sum = sums[At(i)] - sums[At(cut)];
        const int64_t difference = std::max(
            {before.difference, before.most - sum, sum - before.least});
        // Of equal differences the last cut stays.
        if (state.reached && difference > state.difference) continue;
        state = {true, difference, before.most, before.least, cut};
        if (difference == before.most - sum) {
          state.least = sum;
        } else if (difference == sum - before.least) {
          state.most = sum;
        }
      }
    }
  }
  Runs runs(At(k));
  int32_t end = n;
  for (int32_t j = k; j > 0; --j) {
    const int32_t begin = states[At(j)][At(end)].cut;
    runs[At(j) - 1] = {begin, end};
    end = begin;
  }
  return runs;
}

absl::StatusOr<Runs> LeastDifferencePartition(absl::Span<const int64_t> values,
                                              int32_t k, int32_t min_size) {
  SLUICE_ASSIGN_OR_RETURN(Runs best,
                          MinDifferencePartition(values, k, min_size));
  if (values.size() > kMaxExactValues) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "partition: expected at most ", kMaxExactValues,
        " values for the least difference, found ", values.size()));
  }
  const std::vector<int64_t> sums = PrefixSums(values);
  int64_t difference = Difference(best, sums);
  // A smallest sum is the sum of some run; for each, the runs with a smaller
  // difference than the best so far, until there are none.
  std::set<int64_t> lows;
  for (size_t begin = 0; begin < values.size(); ++begin) {
    for (size_t end = begin + At(min_size); end <= values.size(); ++end) {
      lows.insert(sums[end] - sums[begin]);
    }
  }
  for (const int64_t low : lows) {
    while (difference > 0) {
      const std::optional<Runs> found =
          RunsWithin(sums, k, min_size, low, low + difference - 1);
      if (!found.has_value()) break;
      best = *found;
      difference = Difference(best, sums);
    }
  }
  return best;
}

absl::StatusOr<BalancedBatches> ReorderToBalancedBatches(
    absl::Span<const int64_t> values, int32_t batch_size) {
  if (batch_size < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "batches: expected a size of at least 1, found ", batch_size));
  }
  const size_t num_batches =
      (values.size() + At(batch_size) - 1) / At(batch_size);
  Groups batches(num_batches);
  std::vector<int64_t> sums(num_batches);
  std::set<std::pair<int64_t, size_t>> with_room;  // (sum, batch)
  for (size_t b = 0; b < num_batches; ++b) with_room.emplace(0, b);
  std::vector<int32_t> ascending(values.size());
  std::iota(ascending.begin(), ascending.end(), 0);
  std::stable_sort(
      ascending.begin(), ascending.end(),
      [&](int32_t a, int32_t b) { return values[At(a)] < values[At(b)]; });
  for (auto it = ascending.rbegin(); it != ascending.rend(); ++it) {
    const size_t batch = with_room.begin()->second;
    with_room.erase(with_room.begin());
    batches[batch].push_back(*it);
    sums[batch] += values[At(*it)];
    if (batches[batch].size() < At(batch_size)) {
      with_room.emplace(sums[batch], batch);
    }
  }
  BalancedBatches result;
  if (num_batches == 0) return result;
  std::vector<size_t> order(num_batches);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sums[a] < sums[b]; });
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    result.indices.insert(result.indices.end(), batches[*it].begin(),
                          batches[*it].end());
  }
  result.max_difference = sums[order.back()] - sums[order.front()];
  return result;
}

}  // namespace sluice::coordinator::reference
