#include "agent/copy/copy_kernels.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "agent/copy/copy_kernels_avx2.h"
#include "agent/copy/digest_avx512.h"
#include "agent/copy/digest_fold.h"

namespace sluice::agent::copy_internal {
namespace {

using digest_internal::BlockSums;
using digest_internal::kBlockBytes;
using digest_internal::LoadWord;

static_assert(std::endian::native == std::endian::little,
              "digests read little-endian words in place");

// One element per row (a transpose): a typed load and store each.
template <typename T>
void CopyElements(const Rows& rows) {
  const std::byte* src = rows.src;
  std::byte* dst = rows.dst;
  for (int64_t i = 0; i < rows.count; ++i) {
    T value;
    std::memcpy(&value, src, sizeof(T));
    std::memcpy(dst, &value, sizeof(T));
    src += rows.src_stride;
    dst += rows.dst_stride;
  }
}

// Returns false where rows are not one element wide.
bool CopyAsElements(const Rows& rows) {
  switch (rows.bytes) {
    case 1:
      CopyElements<uint8_t>(rows);
      return true;
    case 2:
      CopyElements<uint16_t>(rows);
      return true;
    case 4:
      CopyElements<uint32_t>(rows);
      return true;
    case 8:
      CopyElements<uint64_t>(rows);
      return true;
    default:
      return false;
  }
}

void CopyPortable(const Rows& rows) {
  for (int64_t i = 0; i < rows.count; ++i) {
    std::memcpy(rows.dst + i * rows.dst_stride, rows.src + i * rows.src_stride,
                static_cast<size_t>(rows.bytes));
  }
}

// Adds `n` bytes that start at `offset` of the sums' block and stay inside it.
void AddSegment(BlockSums& sums, int64_t offset, const std::byte* p,
                int64_t n) {
  if ((offset & 3) != 0) {
    const int64_t head = std::min<int64_t>(n, 4 - (offset & 3));
    sums.AddPartOfWord(offset, p, head);
    offset += head, p += head, n -= head;
  }
  for (; n >= 4; offset += 4, p += 4, n -= 4) {
    sums.AddWord(offset >> 2, LoadWord(p));
  }
  if (n > 0) sums.AddPartOfWord(offset, p, n);
}

// Digests, and copies where `dst` is set: block by block, so that the second
// reading finds the bytes in the nearest cache.
template <bool kCopy>
void DigestPortable(const Rows& rows, Digest& digest) {
  BlockSums sums;
  for (int64_t i = 0; i < rows.count; ++i) {
    const std::byte* src = rows.src + i * rows.src_stride;
    std::byte* dst = kCopy ? rows.dst + i * rows.dst_stride : nullptr;
    int64_t logical = rows.logical + i * rows.logical_stride;
    int64_t left = rows.bytes;
    while (left > 0) {
      const auto block = static_cast<uint64_t>(logical / kBlockBytes);
      if (block != sums.block) {
        sums.FoldInto(digest);
        sums.block = block;
      }
      const int64_t offset = logical % kBlockBytes;
      const int64_t n = std::min(left, kBlockBytes - offset);
      AddSegment(sums, offset, src, n);
      if constexpr (kCopy) {
        std::memcpy(dst, src, static_cast<size_t>(n));
        dst += n;
      }
      src += n, logical += n, left -= n;
    }
  }
  sums.FoldInto(digest);
}

}  // namespace

Isa BestIsa() {
  static const Isa isa = !Avx2Supported()    ? Isa::kPortable
                         : Avx512Supported() ? Isa::kAvx512
                                             : Isa::kAvx2;
  return isa;
}

void CopyRows(Isa isa, const Rows& rows, bool streaming) {
  if (CopyAsElements(rows)) return;
  if (isa >= Isa::kAvx2) {
    CopyRowsAvx2(rows, streaming);
  } else {
    CopyPortable(rows);
  }
}

void CopyAndDigestRows(Isa isa, const Rows& rows, bool streaming,
                       Digest& digest) {
  if (isa >= Isa::kAvx2) {
    CopyAndDigestRowsAvx2(rows, streaming, digest);
  } else {
    DigestPortable</*kCopy=*/true>(rows, digest);
  }
}

void DigestRows(Isa isa, const Rows& rows, Digest& digest) {
  if (isa == Isa::kAvx512) {
    DigestRowsAvx512(rows, digest);
  } else if (isa == Isa::kAvx2) {
    DigestRowsAvx2(rows, digest);
  } else {
    DigestPortable</*kCopy=*/false>(rows, digest);
  }
}

}  // namespace sluice::agent::copy_internal
