#ifndef SLUICE_COMMON_LAYOUT_FLAT_H_
#define SLUICE_COMMON_LAYOUT_FLAT_H_

// Flat ranges of N-d boxes.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/box.h"

namespace sluice {

// A box whose elements follow each other in a row-major region.
struct FlatPiece {
  Box box;
  int64_t begin = 0;  // flat position of its first element
};

// Cuts the elements [range.lo, range.hi) of a row-major region of `shape` into
// boxes in ascending order: at most 2N - 1 of an N-d region, one of a 0-d one.
// `range` lies inside the region.
std::vector<FlatPiece> CutFlatRange(absl::Span<const int64_t> shape,
                                    Interval range);

}  // namespace sluice

#endif  // SLUICE_COMMON_LAYOUT_FLAT_H_
