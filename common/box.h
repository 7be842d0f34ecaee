#ifndef SLUICE_COMMON_BOX_H_
#define SLUICE_COMMON_BOX_H_

// Half-open N-d boxes over a logical tensor: [lo, hi) in every dimension. A box
// is geometry only, never an address. A 0-d box holds exactly one element.

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace sluice {

using Shape = std::vector<int64_t>;

struct Interval {
  int64_t lo = 0;
  int64_t hi = 0;

  int64_t size() const { return hi > lo ? hi - lo : 0; }
  bool empty() const { return hi <= lo; }
  friend auto operator<=>(const Interval&, const Interval&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Interval& i) {
    return H::combine(std::move(h), i.lo, i.hi);
  }
};

class Box {
 public:
  Box() = default;
  explicit Box(std::vector<Interval> dims) : dims_(std::move(dims)) {}

  // Returns the box that covers the whole of `shape`.
  static Box Whole(absl::Span<const int64_t> shape);

  int rank() const { return static_cast<int>(dims_.size()); }
  const Interval& dim(int d) const { return dims_[static_cast<size_t>(d)]; }
  Interval& dim(int d) { return dims_[static_cast<size_t>(d)]; }
  const std::vector<Interval>& dims() const { return dims_; }

  bool empty() const;
  // Returns the number of elements; 1 for a 0-d box.
  int64_t num_elements() const;
  // Returns the extents.
  Shape shape() const;
  // Whether every element of `other` (not empty) lies in this box.
  bool Contains(const Box& other) const;
  // Whether this box lies inside a tensor of `shape`.
  bool FitsIn(absl::Span<const int64_t> shape) const;
  // Returns the common part; nullopt where it is empty. Same rank required.
  std::optional<Box> Intersect(const Box& other) const;

  // "[0,4)x[8,16)"; "[]" for a 0-d box.
  std::string ToString() const;

  friend auto operator<=>(const Box&, const Box&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Box& box) {
    return H::combine(std::move(h), box.dims_);
  }
  friend std::ostream& operator<<(std::ostream& os, const Box& box) {
    return os << box.ToString();
  }

 private:
  std::vector<Interval> dims_;
};

// Returns the number of elements of `shape`; nullopt if a size is negative or
// the product overflows int64.
std::optional<int64_t> NumElements(absl::Span<const int64_t> shape);

// Returns row-major strides in elements.
std::vector<int64_t> RowMajorStrides(absl::Span<const int64_t> shape);

}  // namespace sluice

#endif  // SLUICE_COMMON_BOX_H_
