#include "agent/copy/digest_avx512.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <numeric>

#include "agent/copy/digest_fold.h"
#include "agent/copy/row_segments.h"

#if defined(__x86_64__)

#include <immintrin.h>

// GCC 12 takes the undefined lanes of its own intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define SLUICE_AVX512 __attribute__((target("avx512f")))
#define SLUICE_AVX512_INLINE \
  __attribute__((target("avx512f"), always_inline)) inline

namespace sluice::agent::copy_internal {
namespace {

using digest_internal::BlockSums;
using digest_internal::kKeys;

constexpr int64_t kWordsOfLine = 16;

// Even and odd words of two lanes (a 32x32 multiply reads the low half of each
// 64-bit element).
struct LineSums {
  __m512i even0, odd0, even1, odd1;
};

// Modulo 2^64. GCC's _mm512_reduce_add_epi64 adds signed elements, whose
// overflow is undefined.
SLUICE_AVX512_INLINE uint64_t SumOfElements(__m512i v) {
  alignas(64) std::array<uint64_t, 8> element;
  _mm512_store_si512(element.data(), v);
  return std::accumulate(element.begin(), element.end(), uint64_t{0});
}

// Adds the words of `lines` whole lines that start at byte `offset` of the
// block, a multiple of 4.
SLUICE_AVX512_INLINE void AddLines(const std::byte* p, int64_t lines,
                                   int64_t offset, BlockSums& sums) {
  const __m512i zero = _mm512_setzero_si512();
  LineSums v{zero, zero, zero, zero};
  int64_t index = offset >> 2;
  for (; lines > 0; --lines, p += kLine, index += kWordsOfLine) {
    const __m512i words = _mm512_loadu_si512(p);
    const __m512i key0 = _mm512_loadu_si512(kKeys.lane[0] + index);
    const __m512i key1 = _mm512_loadu_si512(kKeys.lane[1] + index);
    const __m512i odd = _mm512_srli_epi64(words, 32);
    v.even0 = _mm512_add_epi64(v.even0, _mm512_mul_epu32(words, key0));
    v.odd0 = _mm512_add_epi64(
        v.odd0, _mm512_mul_epu32(odd, _mm512_srli_epi64(key0, 32)));
    v.even1 = _mm512_add_epi64(v.even1, _mm512_mul_epu32(words, key1));
    v.odd1 = _mm512_add_epi64(
        v.odd1, _mm512_mul_epu32(odd, _mm512_srli_epi64(key1, 32)));
  }
  sums.sum[0] += SumOfElements(_mm512_add_epi64(v.even0, v.odd0));
  sums.sum[1] += SumOfElements(_mm512_add_epi64(v.even1, v.odd1));
}

// Adds `n` bytes that start at `offset` of the sums' block and stay inside it.
SLUICE_AVX512_INLINE void AddSegment(BlockSums& sums, int64_t offset,
                                     const std::byte* p, int64_t n) {
  if ((offset & 3) != 0) {
    const int64_t head = std::min<int64_t>(n, 4 - (offset & 3));
    sums.AddPartOfWord(offset, p, head);
    offset += head, p += head, n -= head;
  }
  if (const int64_t lines = n / kLine; lines > 0) {
    AddLines(p, lines, offset, sums);
    offset += lines * kLine, p += lines * kLine, n -= lines * kLine;
  }
  if (n > 0) sums.AddBytes(offset, p, n);
}

// The address is a hint and may lie outside the buffer: it goes through an
// integer, because a pointer outside its array is undefined even unused.
SLUICE_AVX512_INLINE void PrefetchRow(const Rows& rows, int64_t row) {
  const auto start = reinterpret_cast<uintptr_t>(rows.src) +
                     static_cast<uint64_t>(row * rows.src_stride);
  for (int64_t at = 0; at < rows.bytes; at += kLine) {
    _mm_prefetch(reinterpret_cast<const char*>(start + at), _MM_HINT_T0);
  }
}

}  // namespace

bool Avx512Supported() { return __builtin_cpu_supports("avx512f") != 0; }

SLUICE_AVX512 void DigestRowsAvx512(const Rows& rows, Digest& digest) {
  BlockSums sums;
  const int64_t ahead = PrefetchRows(rows.bytes);
  const bool prefetch = rows.count > ahead && rows.bytes <= kPrefetchRowBytes;
  int64_t row = -1;
  for (RowSegments</*kCopy=*/false> at(rows); at.Next();) {
    if (at.row() != row) {
      row = at.row();
      if (prefetch) PrefetchRow(rows, row + ahead);
    }
    if (at.block != sums.block) {
      sums.FoldInto(digest);
      sums.block = at.block;
    }
    AddSegment(sums, at.offset, at.src, at.bytes);
  }
  sums.FoldInto(digest);
}

}  // namespace sluice::agent::copy_internal

#else  // not x86-64

namespace sluice::agent::copy_internal {

bool Avx512Supported() { return false; }
void DigestRowsAvx512(const Rows&, Digest&) { std::abort(); }

}  // namespace sluice::agent::copy_internal

#endif
