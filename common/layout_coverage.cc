#include "common/layout_coverage.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

using Overlap = std::optional<std::pair<size_t, size_t>>;

// Looks for a part of `region` that none of `boxes` covers; all boxes cover the
// region in the dimensions below `d`.
bool FindHoleFrom(const std::vector<const Box*>& boxes, int d, Box& region) {
  if (boxes.empty()) return true;
  if (d == region.rank()) return false;
  const Interval whole = region.dim(d);
  std::vector<int64_t> cuts = {whole.lo, whole.hi};
  for (const Box* box : boxes) {
    cuts.push_back(box->dim(d).lo);
    cuts.push_back(box->dim(d).hi);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::vector<const Box*> previous;
  bool first = true;
  for (size_t c = 0; c + 1 < cuts.size(); ++c) {
    const Interval slab{cuts[c], cuts[c + 1]};
    std::vector<const Box*> covering;
    for (const Box* box : boxes) {
      if (box->dim(d).lo <= slab.lo && slab.hi <= box->dim(d).hi) {
        covering.push_back(box);
      }
    }
    if (!first && covering == previous) continue;
    region.dim(d) = slab;
    if (FindHoleFrom(covering, d + 1, region)) return true;
    previous = std::move(covering);
    first = false;
  }
  region.dim(d) = whole;
  return false;
}

// Returns the box that the view takes of its parameter's own coordinates;
// nullopt if it is none.
std::optional<Box> BoxInParam(absl::Span<const int64_t> shape,
                              const std::vector<int64_t>& param_strides,
                              const View& view) {
  std::vector<Interval> dims;
  int64_t rest = view.offset;
  for (size_t d = 0; d < shape.size(); ++d) {
    const int64_t at = shape[d] > 0 ? rest / param_strides[d] : 0;
    rest -= at * param_strides[d];
    dims.push_back({at, at + 1});
  }
  for (int d = 0; d < view.box.rank(); ++d) {
    const int64_t extent = view.box.dim(d).size();
    if (extent == 1) continue;
    bool placed = false;
    for (size_t p = 0; p < shape.size() && !placed; ++p) {
      if (shape[p] > 1 && dims[p].size() == 1 &&
          param_strides[p] == view.strides[static_cast<size_t>(d)] &&
          dims[p].lo + extent <= shape[p]) {
        dims[p].hi = dims[p].lo + extent;
        placed = true;
      }
    }
    if (!placed) return std::nullopt;
  }
  return Box(std::move(dims));
}

// Positions in the list of views, and what is compared.
Overlap OverlapOfBoxes(const std::vector<Box>& boxes) {
  std::vector<size_t> order(boxes.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&boxes](size_t a, size_t b) { return boxes[a] < boxes[b]; });
  for (size_t i = 0; i < order.size(); ++i) {
    const Box& one = boxes[order[i]];
    for (size_t j = i + 1; j < order.size(); ++j) {
      const Box& other = boxes[order[j]];
      if (one.rank() > 0 && other.dim(0).lo >= one.dim(0).hi) break;
      if (one.Intersect(other).has_value()) {
        return std::minmax(order[i], order[j]);
      }
    }
  }
  return std::nullopt;
}

struct Run {
  int64_t begin;
  int64_t end;
  size_t view;
};

// Appends the contiguous runs of a view; false beyond the limit.
bool AppendRuns(const View& view, size_t number, int64_t max_runs,
                std::vector<Run>& runs) {
  std::vector<int64_t> extents;
  std::vector<int64_t> strides;
  int64_t length = 1;
  for (int d = view.box.rank() - 1; d >= 0; --d) {
    const int64_t extent = view.box.dim(d).size();
    const int64_t stride = view.strides[static_cast<size_t>(d)];
    if (extent == 1) continue;
    if (extents.empty() && stride == length) {
      length *= extent;  // continues the run
      continue;
    }
    extents.push_back(extent);
    strides.push_back(stride);
  }
  std::vector<int64_t> at(extents.size(), 0);
  int64_t begin = view.offset;
  while (true) {
    if (static_cast<int64_t>(runs.size()) >= max_runs) return false;
    runs.push_back({begin, begin + length, number});
    size_t d = 0;
    for (; d < at.size(); ++d) {
      begin += strides[d];
      if (++at[d] < extents[d]) break;
      begin -= strides[d] * extents[d];
      at[d] = 0;
    }
    if (d == at.size()) return true;
  }
}

}  // namespace

std::optional<Box> FindHole(absl::Span<const int64_t> shape,
                            std::vector<Box> boxes) {
  Box region = Box::Whole(shape);
  if (region.empty()) return std::nullopt;
  std::sort(boxes.begin(), boxes.end());
  boxes.erase(std::unique(boxes.begin(), boxes.end()), boxes.end());
  std::vector<const Box*> pointers;
  for (const Box& box : boxes) pointers.push_back(&box);
  if (FindHoleFrom(pointers, 0, region)) return region;
  return std::nullopt;
}

absl::StatusOr<std::optional<std::pair<size_t, size_t>>> FindMemoryOverlap(
    absl::Span<const int64_t> shape, absl::Span<const View* const> views,
    int64_t max_runs) {
  const std::vector<int64_t> strides = RowMajorStrides(shape);
  std::vector<Box> boxes;
  for (const View* view : views) {
    std::optional<Box> box = BoxInParam(shape, strides, *view);
    if (!box.has_value()) break;
    boxes.push_back(*std::move(box));
  }
  if (boxes.size() == views.size()) return OverlapOfBoxes(boxes);
  std::vector<Run> runs;
  for (size_t v = 0; v < views.size(); ++v) {
    if (!AppendRuns(*views[v], v, max_runs, runs)) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "views break up into more than ", max_runs, " runs of memory"));
    }
  }
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  for (size_t i = 1; i < runs.size(); ++i) {
    if (runs[i].begin < runs[i - 1].end) {
      return Overlap(std::minmax(runs[i - 1].view, runs[i].view));
    }
  }
  return Overlap();
}

}  // namespace sluice
