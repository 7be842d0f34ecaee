#include "common/layout_deal.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sluice {
namespace {

// a * n / d, rounded down or up, without overflow.
int64_t ScaleDown(int64_t a, int64_t n, int64_t d) {
  return static_cast<int64_t>(static_cast<__int128>(a) * n / d);
}
int64_t ScaleUp(int64_t a, int64_t n, int64_t d) {
  return static_cast<int64_t>((static_cast<__int128>(a) * n + d - 1) / d);
}

absl::Status CheckOptions(const DimSplit& split, int64_t size) {
  if (split.unit < 1 || size % split.unit != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "dimension ", split.dim, " has ", size,
        " elements: expected a multiple of the unit ", split.unit));
  }
  if (split.driver_units < 0 || split.pad_units < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "dimension ", split.dim, ": driver_units ", split.driver_units,
        " or pad_units ", split.pad_units, " is negative"));
  }
  const int options = (split.driver_units != 0) + (split.pad_units != 0) +
                      (!split.sizes.empty()) + (!split.parts.empty());
  if (options > 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "dimension ", split.dim,
        ": driver_units, pad_units, sizes and parts exclude each other"));
  }
  return absl::OkStatus();
}

absl::StatusOr<DimDeal> DealParts(const DimSplit& split, int64_t size,
                                  int64_t positions) {
  int64_t left = size;
  for (const int64_t part : split.parts) {
    if (part < 0 || part > left || part % split.unit != 0) {
      left = -1;
      break;
    }
    left -= part;
  }
  if (left != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "dimension ", split.dim, ": parts [", absl::StrJoin(split.parts, ","),
        "]: expected multiples of the unit ", split.unit, " with sum ", size));
  }
  DimDeal deal;
  deal.parts = split.parts.size();
  for (int64_t p = 0; p < positions; ++p) {
    int64_t begin = 0;
    for (const int64_t part : split.parts) {
      const Interval block = CeilBlock(part / split.unit, positions, p);
      deal.held.push_back(
          {begin + block.lo * split.unit, begin + block.hi * split.unit});
      begin += part;
    }
  }
  return deal;
}

absl::StatusOr<DimDeal> DealListed(const DimSplit& split, int64_t units,
                                   int64_t positions) {
  DimDeal deal;
  int64_t next = 0;
  bool in_range = split.sizes.size() == static_cast<size_t>(positions);
  for (const int64_t size : split.sizes) {
    if (size < 0 || size > units - next) {
      in_range = false;
      break;
    }
    deal.held.push_back({next * split.unit, (next + size) * split.unit});
    next += size;
  }
  if (!in_range || next != units) {
    return absl::InvalidArgumentError(absl::StrCat(
        "dimension ", split.dim, ": sizes [", absl::StrJoin(split.sizes, ","),
        "]: expected ", positions, " sizes with sum ", units));
  }
  return deal;
}

absl::StatusOr<DimDeal> DealPadded(const DimSplit& split, int64_t units,
                                   int64_t positions) {
  int64_t step = 0;
  int64_t padded = 0;
  if (__builtin_mul_overflow(split.pad_units, positions, &step) ||
      __builtin_add_overflow(units, step - 1, &padded) ||
      __builtin_mul_overflow(padded, split.unit, &padded)) {
    return absl::InvalidArgumentError(
        absl::StrCat("dimension ", split.dim, ": pad_units ", split.pad_units,
                     " makes the size overflow"));
  }
  const int64_t block = (units + step - 1) / step * split.pad_units;
  DimDeal deal;
  deal.padded_extent = block * split.unit;
  for (int64_t p = 0; p < positions; ++p) {
    deal.held.push_back({std::min(p * block, units) * split.unit,
                         std::min((p + 1) * block, units) * split.unit});
  }
  return deal;
}

}  // namespace

int64_t DimDeal::LocalExtent(int64_t position) const {
  if (padded_extent != 0) return padded_extent;
  int64_t extent = 0;
  for (const Interval& part : HeldBy(position)) extent += part.size();
  return extent;
}

Interval CeilBlock(int64_t count, int64_t positions, int64_t position) {
  const int64_t block = count / positions + (count % positions != 0 ? 1 : 0);
  // Past the last block: compared before multiplying, which could overflow.
  if (block == 0 || position > count / block) return {count, count};
  const int64_t lo = std::min(position * block, count);
  return {lo, lo + std::min(block, count - lo)};
}

absl::StatusOr<DimDeal> DealDim(const DimSplit& split, int64_t size,
                                int64_t positions) {
  if (const absl::Status status = CheckOptions(split, size); !status.ok()) {
    return status;
  }
  if (!split.parts.empty()) return DealParts(split, size, positions);
  const int64_t units = size / split.unit;
  if (!split.sizes.empty()) return DealListed(split, units, positions);
  if (split.pad_units != 0) return DealPadded(split, units, positions);
  DimDeal deal;
  for (int64_t p = 0; p < positions; ++p) {
    if (split.driver_units == 0) {
      const Interval block = CeilBlock(units, positions, p);
      deal.held.push_back({block.lo * split.unit, block.hi * split.unit});
      continue;
    }
    const Interval drivers = CeilBlock(split.driver_units, positions, p);
    if (drivers.empty()) {
      deal.held.push_back({size, size});
      continue;
    }
    deal.held.push_back(
        {ScaleDown(drivers.lo, units, split.driver_units) * split.unit,
         ScaleUp(drivers.hi, units, split.driver_units) * split.unit});
  }
  return deal;
}

}  // namespace sluice
