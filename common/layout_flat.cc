#include "common/layout_flat.h"

#include <cstddef>
#include <utility>

namespace sluice {
namespace {

class Cutter {
 public:
  explicit Cutter(absl::Span<const int64_t> shape)
      : shape_(shape), strides_(RowMajorStrides(shape)) {
    for (const int64_t size : shape) at_.push_back({0, size});
  }

  // Cuts the part of the region in which the dimensions before `d` are fixed
  // in at_; `range` counts from that part's first element, at `begin`.
  void Cut(size_t d, Interval range, int64_t begin) {
    if (range.empty()) return;
    if (d == shape_.size()) {
      pieces_.push_back({Box(at_), begin});
      return;
    }
    const int64_t stride = strides_[d];
    const int64_t first = range.lo / stride;
    const int64_t last = (range.hi - 1) / stride;
    int64_t row = first;
    if (first == last && range.size() < stride) {  // within one row
      CutRow(d, row, {range.lo - row * stride, range.hi - row * stride}, begin);
      return;
    }
    if (range.lo % stride != 0) {
      CutRow(d, row, {range.lo - row * stride, stride}, begin);
      ++row;
    }
    const int64_t end = range.hi / stride;
    if (row < end) {
      at_[d] = {row, end};
      pieces_.push_back({Box(at_), begin + row * stride});
      at_[d] = {0, shape_[d]};
    }
    if (end * stride < range.hi) {
      CutRow(d, end, {0, range.hi - end * stride}, begin);
    }
  }

  std::vector<FlatPiece> Take() { return std::move(pieces_); }

 private:
  void CutRow(size_t d, int64_t row, Interval range, int64_t begin) {
    at_[d] = {row, row + 1};
    Cut(d + 1, range, begin + row * strides_[d]);
    at_[d] = {0, shape_[d]};
  }

  absl::Span<const int64_t> shape_;
  std::vector<int64_t> strides_;
  std::vector<Interval> at_;
  std::vector<FlatPiece> pieces_;
};

}  // namespace

std::vector<FlatPiece> CutFlatRange(absl::Span<const int64_t> shape,
                                    Interval range) {
  Cutter cutter(shape);
  cutter.Cut(0, range, 0);
  return cutter.Take();
}

}  // namespace sluice
