#include "agent/copy/copy_kernels.h"

#include <bit>
#include <cstring>

#include "agent/copy/copy_kernels_avx2.h"
#include "agent/copy/digest_avx512.h"
#include "agent/copy/digest_fold.h"
#include "agent/copy/row_segments.h"

namespace sluice::agent::copy_internal {
namespace {

using digest_internal::BlockSums;

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

// Digests, and copies where `dst` is set: block by block, so that the second
// reading finds the bytes in the nearest cache.
template <bool kCopy>
void DigestPortable(const Rows& rows, Digest& digest) {
  BlockSums sums;
  for (RowSegments<kCopy> at(rows); at.Next();) {
    if (at.block != sums.block) {
      sums.FoldInto(digest);
      sums.block = at.block;
    }
    sums.AddBytes(at.offset, at.src, at.bytes);
    if constexpr (kCopy) {
      std::memcpy(at.dst, at.src, static_cast<size_t>(at.bytes));
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
