#include "coordinator/planner/tensor_runs.h"

#include <algorithm>
#include <cstddef>

namespace sluice::coordinator {
namespace {

// Next indices tried as the second one of a run.
constexpr size_t kMaxSteps = 8;

// The indices that no run has yet.
class Remaining {
 public:
  explicit Remaining(absl::Span<const TensorIndex> indices)
      : indices_(indices),
        lowest_(indices.front().value()),
        left_(static_cast<size_t>(indices.back().value() - lowest_) + 1) {
    for (const TensorIndex index : indices) left_[At(index.value())] = 1;
  }

  bool Has(int64_t index) const {
    return index <= indices_.back().value() && left_[At(index)] != 0;
  }

  // The longest run that begins at position `i`; the least step of equals.
  TensorRun Longest(size_t i) const {
    const int32_t first = indices_[i].value();
    TensorRun best{first, 1, 1};
    size_t tried = 0;
    for (size_t j = i + 1; j < indices_.size() && tried < kMaxSteps; ++j) {
      if (!Has(indices_[j].value())) continue;
      ++tried;
      const int32_t step = indices_[j].value() - first;
      int32_t count = 2;
      while (Has(first + int64_t{count} * step)) ++count;
      if (count > best.count) best = {first, count, step};
    }
    return best;
  }

  void Remove(const TensorRun& run) {
    for (int32_t k = 0; k < run.count; ++k) {
      left_[At(run.first + int64_t{k} * run.step)] = 0;
    }
  }

 private:
  size_t At(int64_t index) const {
    return static_cast<size_t>(index - lowest_);
  }

  absl::Span<const TensorIndex> indices_;
  int32_t lowest_;
  std::vector<char> left_;
};

}  // namespace

std::vector<TensorRun> FindRuns(absl::Span<const TensorIndex> indices) {
  std::vector<TensorRun> runs;
  if (indices.empty()) return runs;
  Remaining remaining(indices);
  for (size_t i = 0; i < indices.size(); ++i) {
    if (!remaining.Has(indices[i].value())) continue;
    runs.push_back(remaining.Longest(i));
    remaining.Remove(runs.back());
  }
  return runs;
}

const std::vector<TensorRun>& RunTable::Runs(
    int32_t list, const std::vector<TensorIndex>& tensors,
    const PositionRanges& ranges) {
  const auto [it, inserted] = known_.try_emplace({list, ranges});
  if (inserted) {
    std::vector<TensorIndex> taken;
    for (const auto& [first, last] : ranges) {
      taken.insert(taken.end(), tensors.begin() + first,
                   tensors.begin() + last);
    }
    it->second = FindRuns(taken);
  }
  return it->second;
}

}  // namespace sluice::coordinator
