#ifndef SLUICE_COMMON_LAYOUT_DEAL_H_
#define SLUICE_COMMON_LAYOUT_DEAL_H_

// The split rule: how one dimension is dealt over the positions of some axes.

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/box.h"
#include "common/layout.h"

namespace sluice {

struct DimDeal {
  // held[position * parts + part]: the elements of this dimension that it
  // holds; they lie side by side.
  std::vector<Interval> held;
  size_t parts = 1;
  // Not 0: every position's local extent, whatever it holds (padding).
  int64_t padded_extent = 0;

  absl::Span<const Interval> HeldBy(int64_t position) const {
    return absl::MakeConstSpan(held).subspan(
        static_cast<size_t>(position) * parts, parts);
  }
  int64_t LocalExtent(int64_t position) const;
};

// Deals `size` elements over `positions` >= 1 by the rule of DimSplit.
// Errors: INVALID_ARGUMENT - a unit that does not divide `size`, sizes that do
// not sum up or have another length, numbers out of range or options that
// exclude each other; says what was expected and found.
absl::StatusOr<DimDeal> DealDim(const DimSplit& split, int64_t size,
                                int64_t positions);

// Deals `count` things over `positions` in blocks of ceil(count/positions):
// returns what `position` gets.
Interval CeilBlock(int64_t count, int64_t positions, int64_t position);

}  // namespace sluice

#endif  // SLUICE_COMMON_LAYOUT_DEAL_H_
