#ifndef SLUICE_AGENT_COPY_ROW_SEGMENTS_H_
#define SLUICE_AGENT_COPY_ROW_SEGMENTS_H_

// Shared by the portable and the vector kernels: how rows are cut for a digest,
// and how far ahead of a strided row memory is fetched.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "agent/copy/copy_kernels.h"
#include "agent/copy/digest_keys.h"

namespace sluice::agent::copy_internal {

// Bytes of a cache line.
inline constexpr int64_t kLine = 64;

// Rows up to this long are fetched ahead: the hardware's prefetcher does not
// follow a stride across pages. Longer runs feed it by themselves.
inline constexpr int64_t kPrefetchRowBytes = 8192;

// How many rows ahead: about 4 KiB of them, which is what a core can have under
// way, so that short rows come as fast as long ones.
constexpr int64_t PrefetchRows(int64_t row_bytes) {
  return std::clamp<int64_t>(4096 / std::max<int64_t>(row_bytes, 1), 2, 64);
}

// Goes through rows in pieces that each lie in one block of the digest:
//
//   for (RowSegments<kCopy> at(rows); at.Next();) ...
//
// `dst` is null unless kCopy.
template <bool kCopy>
class RowSegments {
 public:
  explicit RowSegments(const Rows& rows) : rows_(rows) {}

  // Goes to the next piece, if there is one.
  bool Next() {
    while (left_ == 0) {
      if (row_ + 1 >= rows_.count) return false;
      StartRow(row_ + 1);
    }
    src = next_src_;
    dst = next_dst_;
    block = static_cast<uint64_t>(logical_ / digest_internal::kBlockBytes);
    offset = logical_ % digest_internal::kBlockBytes;
    bytes = std::min(left_, digest_internal::kBlockBytes - offset);
    next_src_ += bytes;
    if constexpr (kCopy) next_dst_ += bytes;
    logical_ += bytes;
    left_ -= bytes;
    return true;
  }

  // The row of the current piece.
  int64_t row() const { return row_; }

  const std::byte* src = nullptr;
  std::byte* dst = nullptr;
  uint64_t block = 0;
  int64_t offset = 0;  // in the block
  int64_t bytes = 0;

 private:
  void StartRow(int64_t row) {
    row_ = row;
    next_src_ = rows_.src + row * rows_.src_stride;
    if constexpr (kCopy) next_dst_ = rows_.dst + row * rows_.dst_stride;
    logical_ = rows_.logical + row * rows_.logical_stride;
    left_ = rows_.bytes;
  }

  const Rows& rows_;
  int64_t row_ = -1;
  const std::byte* next_src_ = nullptr;
  std::byte* next_dst_ = nullptr;
  int64_t logical_ = 0;
  int64_t left_ = 0;
};

}  // namespace sluice::agent::copy_internal

#endif  // SLUICE_AGENT_COPY_ROW_SEGMENTS_H_
