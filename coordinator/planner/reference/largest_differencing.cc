#include "coordinator/planner/reference/largest_differencing.h"

#include <algorithm>
#include <queue>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace sluice::coordinator::reference {
namespace {

// A part under construction: its members are a list through `next`.
struct Part {
  int64_t sum = 0;
  int32_t first = -1;
  int32_t last = -1;
};

// A partial division: its non-empty parts, by sum, descending. The others are
// empty, which is less than any part with members.
using Division = std::vector<Part>;

bool Larger(const Part& a, const Part& b) { return a.sum > b.sum; }

class Differencing {
 public:
  Differencing(absl::Span<const int64_t> values, int32_t parts)
      : num_parts_(static_cast<size_t>(parts)), next_(values.size(), -1) {
    for (const int32_t i : DescendingOrder(values)) {
      Push({{values[static_cast<size_t>(i)], i, i}});
    }
  }

  Groups Run() {
    while (queue_.size() > 1) {
      Division a = Pop();
      Division b = Pop();
      Push(Join(std::move(a), std::move(b)));
    }
    Groups groups;
    for (const Part& part : Pop()) {
      std::vector<int32_t>& group = groups.emplace_back();
      for (int32_t i = part.first; i >= 0; i = next_[static_cast<size_t>(i)]) {
        group.push_back(i);
      }
      std::sort(group.begin(), group.end());
    }
    return groups;
  }

 private:
  void Push(Division division) {
    const int64_t least =
        division.size() < num_parts_ ? 0 : division.back().sum;
    // Of equal differences the older division goes first.
    queue_.emplace(division.front().sum - least,
                   -static_cast<int64_t>(divisions_.size()));
    divisions_.push_back(std::move(division));
  }

  Division Pop() {
    const auto number = static_cast<size_t>(-queue_.top().second);
    queue_.pop();
    return std::move(divisions_[number]);
  }

  // The i-th largest part of `a` takes the i-th smallest of `b`, empty ones
  // included.
  Division Join(Division a, Division b) {
    if (a.size() < b.size()) a.swap(b);
    const size_t spare = num_parts_ - a.size();
    // b's largest parts meet a's empty ones; the rest meet a's smallest.
    const size_t alone = std::min(spare, b.size());
    if (alone == b.size() && alone == 1) {
      a.insert(std::upper_bound(a.begin(), a.end(), b[0], Larger), b[0]);
      return a;
    }
    for (size_t i = alone; i < b.size(); ++i) {
      Part& into = a[a.size() - 1 - (i - alone)];
      next_[static_cast<size_t>(into.last)] = b[i].first;
      into.last = b[i].last;
      into.sum += b[i].sum;
    }
    a.insert(a.end(), b.begin(), b.begin() + static_cast<int64_t>(alone));
    std::stable_sort(a.begin(), a.end(), Larger);
    return a;
  }

  const size_t num_parts_;
  std::vector<int32_t> next_;  // by value: the next member of its part, or -1
  std::vector<Division> divisions_;
  // (difference, -number): the largest first.
  std::priority_queue<std::pair<int64_t, int64_t>> queue_;
};

}  // namespace

absl::StatusOr<Groups> LargestDifferencing(absl::Span<const int64_t> values,
                                           int32_t parts) {
  if (parts < 1 || values.size() < static_cast<size_t>(parts)) {
    return absl::InvalidArgumentError(
        absl::StrCat("division: expected one to ", values.size(),
                     " parts for as many values, found ", parts));
  }
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("division: value ", i,
                       ": expected a number of at least 0, found ", values[i]));
    }
  }
  return Differencing(values, parts).Run();
}

}  // namespace sluice::coordinator::reference
