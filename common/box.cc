#include "common/box.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace sluice {

Box Box::Whole(absl::Span<const int64_t> shape) {
  std::vector<Interval> dims;
  dims.reserve(shape.size());
  for (const int64_t size : shape) dims.push_back({0, size});
  return Box(std::move(dims));
}

bool Box::empty() const {
  return std::any_of(dims_.begin(), dims_.end(),
                     [](const Interval& i) { return i.empty(); });
}

int64_t Box::num_elements() const {
  int64_t count = 1;
  for (const Interval& interval : dims_) count *= interval.size();
  return count;
}

Shape Box::shape() const {
  Shape out;
  out.reserve(dims_.size());
  for (const Interval& interval : dims_) out.push_back(interval.size());
  return out;
}

bool Box::Contains(const Box& other) const {
  if (rank() != other.rank()) return false;
  for (int d = 0; d < rank(); ++d) {
    if (other.dim(d).lo < dim(d).lo || other.dim(d).hi > dim(d).hi) {
      return false;
    }
  }
  return true;
}

bool Box::FitsIn(absl::Span<const int64_t> shape) const {
  if (dims_.size() != shape.size()) return false;
  for (size_t d = 0; d < dims_.size(); ++d) {
    if (dims_[d].lo < 0 || dims_[d].hi < dims_[d].lo ||
        dims_[d].hi > shape[d]) {
      return false;
    }
  }
  return true;
}

std::optional<Box> Box::Intersect(const Box& other) const {
  if (rank() != other.rank()) return std::nullopt;
  std::vector<Interval> dims;
  dims.reserve(dims_.size());
  for (int d = 0; d < rank(); ++d) {
    const Interval common{std::max(dim(d).lo, other.dim(d).lo),
                          std::min(dim(d).hi, other.dim(d).hi)};
    if (common.empty()) return std::nullopt;
    dims.push_back(common);
  }
  return Box(std::move(dims));
}

std::string Box::ToString() const {
  if (dims_.empty()) return "[]";
  std::string out;
  for (size_t d = 0; d < dims_.size(); ++d) {
    absl::StrAppend(&out, d == 0 ? "[" : "x[", dims_[d].lo, ",", dims_[d].hi,
                    ")");
  }
  return out;
}

std::optional<int64_t> NumElements(absl::Span<const int64_t> shape) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(count, size, &count)) {
      return std::nullopt;
    }
  }
  return count;
}

std::vector<int64_t> RowMajorStrides(absl::Span<const int64_t> shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;) {
    strides[d - 1] = strides[d] * std::max<int64_t>(shape[d], 1);
  }
  return strides;
}

}  // namespace sluice
