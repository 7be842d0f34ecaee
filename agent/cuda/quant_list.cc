#include "agent/cuda/quant_list.h"

#include "absl/strings/str_cat.h"
#include "agent/cuda/kernel_math.h"

namespace sluice::agent::cuda {
namespace {

constexpr int64_t kMaxSize = (int64_t{1} << 31) - 1;
constexpr int64_t kMaxBlockElements = int64_t{1} << 24;
constexpr int64_t kMaxBlocks = int64_t{1} << 31;
constexpr int64_t kGroup = 8;

bool InRange(int64_t value, int64_t least) {
  return value >= least && value <= kMaxSize;
}

bool IsMultiple(uint64_t address, int64_t row, int64_t of) {
  return address % static_cast<uint64_t>(of) == 0 && row % of == 0;
}

}  // namespace

absl::Status QuantList::Add(const QuantPlace& place, Element element) {
  if (element == Element::kF64) {
    return absl::InvalidArgumentError(
        "matrix of F64: expected F32, BF16 or F16");
  }
  const int64_t bytes = element == Element::kF32 ? 4 : 2;
  if (!InRange(place.rows, 0) || !InRange(place.cols, 0) ||
      !InRange(place.block_rows, 1) || !InRange(place.block_cols, 1) ||
      place.block_rows * place.block_cols > kMaxBlockElements) {
    return absl::InvalidArgumentError(absl::StrCat(
        "matrix of ", place.rows, " x ", place.cols, " in blocks of ",
        place.block_rows, " x ", place.block_cols,
        ": expected sizes below 2^31 and blocks of 1 to ", kMaxBlockElements,
        " elements"));
  }
  if (place.rows == 0 || place.cols == 0) return absl::OkStatus();
  const int64_t block_cols =
      (place.cols + place.block_cols - 1) / place.block_cols;
  const int64_t block_rows =
      (place.rows + place.block_rows - 1) / place.block_rows;
  if (place.plain_row < place.cols * bytes ||
      place.quantised_row < place.cols || place.scale_row < block_cols * 4 ||
      !IsMultiple(place.plain, place.plain_row, bytes) ||
      !IsMultiple(place.scales, place.scale_row, 4)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "matrix of ", place.rows, " x ", place.cols, " with rows ",
        place.plain_row, ", ", place.quantised_row, " and ", place.scale_row,
        " bytes apart: expected rows that do not overlap, at multiples of "
        "their element's size"));
  }
  if (blocks_ + block_cols * block_rows > kMaxBlocks) {
    return absl::ResourceExhaustedError(
        absl::StrCat("more than ", kMaxBlocks, " blocks for one launch"));
  }
  QuantDescriptor matrix;
  matrix.plain = place.plain;
  matrix.quantised = place.quantised;
  matrix.scales = place.scales;
  matrix.plain_row = place.plain_row;
  matrix.quantised_row = place.quantised_row;
  matrix.scale_row = place.scale_row;
  matrix.rows = static_cast<uint32_t>(place.rows);
  matrix.cols = static_cast<uint32_t>(place.cols);
  matrix.block_rows = static_cast<uint32_t>(place.block_rows);
  matrix.block_cols = static_cast<uint32_t>(place.block_cols);
  matrix.blocks_per_row = MakeDivider(static_cast<uint32_t>(block_cols));
  matrix.first_block = blocks_;
  const bool grouped = place.cols % kGroup == 0 &&
                       place.block_cols % kGroup == 0 &&
                       IsMultiple(place.plain, place.plain_row, 16) &&
                       IsMultiple(place.quantised, place.quantised_row, kGroup);
  matrix.group_log2 = grouped ? 3 : 0;
  blocks_ += static_cast<uint32_t>(block_cols * block_rows);
  matrices_.push_back(matrix);
  return absl::OkStatus();
}

}  // namespace sluice::agent::cuda
