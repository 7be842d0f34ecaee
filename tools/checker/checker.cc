#include "tools/checker/checker.h"

#include <algorithm>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace sluice::checker {
namespace {

// Copies a row of the checkpoint as it must be now.
void ExpectedRow(const std::byte* from, int64_t bytes, int64_t element_bytes,
                 bool flipped, std::byte* to) {
  std::memcpy(to, from, static_cast<size_t>(bytes));
  if (!flipped) return;
  // Little-endian: the sign is the top bit of an element's last byte.
  for (int64_t i = element_bytes - 1; i < bytes; i += element_bytes) {
    to[i] ^= std::byte{0x80};
  }
}

absl::Status RowDiffers(const std::string& param, int64_t row,
                        const std::string& from, const std::byte* expected,
                        const std::byte* found, int64_t bytes,
                        int64_t element_bytes) {
  int64_t at = 0;
  while (at < bytes && expected[at] == found[at]) ++at;
  const int64_t element = at / element_bytes;
  std::string want, got;
  for (int64_t i = element_bytes - 1; i >= 0; --i) {
    const int64_t byte = element * element_bytes + i;
    absl::StrAppendFormat(&want, "%02x", static_cast<int>(expected[byte]));
    absl::StrAppendFormat(&got, "%02x", static_cast<int>(found[byte]));
  }
  return absl::DataLossError(
      absl::StrCat("parameter \"", param, "\" row ", row, " column ", element,
                   " (from ", from, "): expected 0x", want, ", found 0x", got));
}

// Compares one parameter; adds the bytes compared.
absl::Status CheckParam(const CheckpointBytes& checkpoint,
                        const std::vector<RowBlock>& blocks,
                        const HeldParam& held, const std::byte* memory,
                        int64_t memory_bytes, bool flipped, int64_t& compared) {
  const Matrix& first = *checkpoint.Find(blocks.front().tensor);
  const int64_t columns = blocks.front().column_hi - blocks.front().column_lo;
  const int64_t rows = held.shape.empty() ? 1 : held.shape[0];
  int64_t held_columns = 1;
  for (size_t d = 1; d < held.shape.size(); ++d) held_columns *= held.shape[d];
  int64_t expected_rows = 0;
  for (const RowBlock& block : blocks) {
    expected_rows += block.row_hi - block.row_lo;
  }
  const int64_t row_bytes = columns * first.element_bytes;
  if (held_columns != columns || rows < expected_rows ||
      held.offset_bytes < 0 ||
      held.offset_bytes + rows * row_bytes > memory_bytes) {
    return absl::DataLossError(absl::StrCat(
        "parameter \"", held.name, "\": expected ", expected_rows, "x", columns,
        " in ", memory_bytes, " bytes, found ", absl::StrJoin(held.shape, "x"),
        " at byte ", held.offset_bytes));
  }
  std::vector<std::byte> expected(static_cast<size_t>(row_bytes));
  const std::byte* found = memory + held.offset_bytes;
  int64_t row = 0;
  for (const RowBlock& block : blocks) {
    const Matrix& matrix = *checkpoint.Find(block.tensor);
    for (int64_t r = block.row_lo; r < block.row_hi; ++r, ++row) {
      ExpectedRow(matrix.data + (r * matrix.columns + block.column_lo) *
                                    matrix.element_bytes,
                  row_bytes, matrix.element_bytes, flipped, expected.data());
      if (std::memcmp(expected.data(), found, expected.size()) != 0) {
        return RowDiffers(held.name, row, block.tensor, expected.data(), found,
                          row_bytes, matrix.element_bytes);
      }
      found += row_bytes;
    }
  }
  std::fill(expected.begin(), expected.end(), std::byte{0});
  for (; row < rows; ++row, found += row_bytes) {
    if (std::memcmp(expected.data(), found, expected.size()) != 0) {
      return RowDiffers(held.name, row, "padding", expected.data(), found,
                        row_bytes, first.element_bytes);
    }
  }
  compared += rows * row_bytes;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int64_t> CheckMemory(const CheckpointBytes& checkpoint,
                                    const Expectation& expectation,
                                    const std::vector<HeldParam>& held,
                                    const std::byte* memory,
                                    int64_t memory_bytes, int sign_flips) {
  int64_t compared = 0;
  size_t matched = 0;
  for (const HeldParam& param : held) {
    const auto it = expectation.find(param.name);
    if (it == expectation.end()) {
      return absl::DataLossError(
          absl::StrCat("unexpected parameter \"", param.name, "\""));
    }
    ++matched;
    const absl::Status status =
        CheckParam(checkpoint, it->second, param, memory, memory_bytes,
                   sign_flips % 2 != 0, compared);
    if (!status.ok()) return status;
  }
  if (matched != expectation.size()) {
    for (const auto& expected : expectation) {
      const std::string& name = expected.first;
      const bool found =
          std::any_of(held.begin(), held.end(),
                      [&](const HeldParam& p) { return p.name == name; });
      if (!found) {
        return absl::DataLossError(
            absl::StrCat("missing parameter \"", name, "\""));
      }
    }
    return absl::DataLossError("a parameter is held twice");
  }
  return compared;
}

}  // namespace sluice::checker
