#include "agent/copy/copy_kernels_avx2.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "agent/copy/digest_fold.h"
#include "agent/copy/row_segments.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define SLUICE_AVX2 __attribute__((target("avx2")))
#define SLUICE_AVX2_INLINE __attribute__((target("avx2"), always_inline)) inline

namespace sluice::agent::copy_internal {
namespace {

using digest_internal::BlockSums;
using digest_internal::kKeys;
using digest_internal::LoadWord;

// Within a long run: far enough to cover one memory latency.
constexpr int64_t kPrefetchAhead = 1024;

SLUICE_AVX2_INLINE __m256i Load(const std::byte* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
SLUICE_AVX2_INLINE void Store(std::byte* p, __m256i v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
}
SLUICE_AVX2_INLINE void Stream(std::byte* p, __m256i v) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), v);
}
SLUICE_AVX2_INLINE int64_t PrefetchDistance(const Rows& rows) {
  const int64_t ahead = PrefetchRows(rows.bytes);
  return rows.bytes <= kPrefetchRowBytes && rows.count > ahead
             ? ahead * rows.src_stride
             : kPrefetchAhead;
}
// The address is a hint and may lie outside the buffer: it goes through an
// integer, because a pointer outside its array is undefined even unused.
SLUICE_AVX2_INLINE void Prefetch(const std::byte* p, int64_t distance) {
  _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(p) +
                                             static_cast<uint64_t>(distance)),
               _MM_HINT_T0);
}

// Copies n < 64 bytes, with two overlapping accesses where they pay.
SLUICE_AVX2_INLINE void CopySmall(std::byte* dst, const std::byte* src,
                                  int64_t n) {
  if (n >= 32) {
    const __m256i first = Load(src);
    const __m256i last = Load(src + n - 32);
    Store(dst, first);
    Store(dst + n - 32, last);
  } else if (n >= 16) {
    const __m128i first =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(src));
    const __m128i last =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + n - 16));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst), first);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + n - 16), last);
  } else if (n >= 8) {
    uint64_t first, last;
    std::memcpy(&first, src, 8);
    std::memcpy(&last, src + n - 8, 8);
    std::memcpy(dst, &first, 8);
    std::memcpy(dst + n - 8, &last, 8);
  } else {
    for (int64_t i = 0; i < n; ++i) dst[i] = src[i];
  }
}

// Bytes before the first whole cache line of the destination; only whole lines
// are streamed, because a line streamed in parts costs a memory access each.
SLUICE_AVX2_INLINE int64_t HeadBytes(const std::byte* dst, int64_t n) {
  const auto address = reinterpret_cast<uintptr_t>(dst);
  return std::min<int64_t>(n, static_cast<int64_t>(-address & (kLine - 1)));
}

template <bool kStreaming>
SLUICE_AVX2_INLINE void CopyRun(std::byte* dst, const std::byte* src, int64_t n,
                                int64_t ahead) {
  if constexpr (kStreaming) {
    const int64_t head = HeadBytes(dst, n);
    if (head > 0) {
      CopySmall(dst, src, head);
      dst += head, src += head, n -= head;
    }
  }
  for (; n >= kLine; dst += kLine, src += kLine, n -= kLine) {
    Prefetch(src, ahead);
    const __m256i a = Load(src);
    const __m256i b = Load(src + 32);
    if constexpr (kStreaming) {
      Stream(dst, a);
      Stream(dst + 32, b);
    } else {
      Store(dst, a);
      Store(dst + 32, b);
    }
  }
  if (n > 0) {
    Prefetch(src, ahead);
    CopySmall(dst, src, n);
  }
}

// The sums of one block, kept in registers: even and odd words of two lanes
// (a 32x32 multiply reads the low half of each 64-bit element).
struct VectorSums {
  __m256i even0, odd0, even1, odd1;
};

SLUICE_AVX2_INLINE void Clear(VectorSums& v) {
  v.even0 = v.odd0 = v.even1 = v.odd1 = _mm256_setzero_si256();
}

SLUICE_AVX2_INLINE __m256i LoadKeys(const uint32_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// Adds eight words, the first of which has index `index` in its block.
SLUICE_AVX2_INLINE void AddWords(VectorSums& v, int64_t index, __m256i words) {
  const __m256i odd = _mm256_srli_epi64(words, 32);
  const uint32_t* key0 = kKeys.lane[0] + index;
  const uint32_t* key1 = kKeys.lane[1] + index;
  v.even0 = _mm256_add_epi64(v.even0, _mm256_mul_epu32(words, LoadKeys(key0)));
  v.odd0 = _mm256_add_epi64(v.odd0, _mm256_mul_epu32(odd, LoadKeys(key0 + 1)));
  v.even1 = _mm256_add_epi64(v.even1, _mm256_mul_epu32(words, LoadKeys(key1)));
  v.odd1 = _mm256_add_epi64(v.odd1, _mm256_mul_epu32(odd, LoadKeys(key1 + 1)));
}

SLUICE_AVX2_INLINE uint64_t SumOf(__m256i a, __m256i b) {
  const __m256i sum = _mm256_add_epi64(a, b);
  const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sum),
                                     _mm256_extracti128_si256(sum, 1));
  return static_cast<uint64_t>(_mm_cvtsi128_si64(half)) +
         static_cast<uint64_t>(_mm_extract_epi64(half, 1));
}

SLUICE_AVX2_INLINE void Fold(VectorSums& v, BlockSums& sums, Digest& digest) {
  sums.sum[0] += SumOf(v.even0, v.odd0);
  sums.sum[1] += SumOf(v.even1, v.odd1);
  Clear(v);
  sums.FoldInto(digest);
}

// Where bytes of one block are read and written, and how many are left of the
// segment in hand.
struct Cursor {
  const std::byte* src;
  std::byte* dst;
  int64_t offset;  // in the block
  int64_t left;
};

SLUICE_AVX2_INLINE void Advance(Cursor& c, int64_t n) {
  c.src += n, c.dst += n, c.offset += n, c.left -= n;
}

template <bool kCopy>
SLUICE_AVX2_INLINE void StepPart(Cursor& c, BlockSums& sums, int64_t n) {
  sums.AddPartOfWord(c.offset, c.src, n);
  if constexpr (kCopy) {
    for (int64_t i = 0; i < n; ++i) c.dst[i] = c.src[i];
  }
  Advance(c, n);
}

template <bool kCopy>
SLUICE_AVX2_INLINE void StepWord(Cursor& c, BlockSums& sums) {
  const uint32_t word = LoadWord(c.src);
  sums.AddWord(c.offset >> 2, word);
  if constexpr (kCopy) std::memcpy(c.dst, &word, sizeof(word));
  Advance(c, 4);
}

template <bool kCopy, bool kStreaming>
SLUICE_AVX2_INLINE void StepVector(Cursor& c, VectorSums& v) {
  const __m256i words = Load(c.src);
  if constexpr (kCopy && kStreaming) Stream(c.dst, words);
  if constexpr (kCopy && !kStreaming) Store(c.dst, words);
  AddWords(v, c.offset >> 2, words);
  Advance(c, 32);
}

// One segment inside one block. Streams only if the destination reaches a line
// boundary at a word boundary of the logical tensor.
template <bool kCopy, bool kStreaming>
SLUICE_AVX2_INLINE void DigestSegment(Cursor c, int64_t ahead, VectorSums& v,
                                      BlockSums& sums) {
  if ((c.offset & 3) != 0) {
    StepPart<kCopy>(c, sums, std::min<int64_t>(c.left, 4 - (c.offset & 3)));
  }
  bool lines = !kStreaming;
  if constexpr (kCopy && kStreaming) {
    lines = (reinterpret_cast<uintptr_t>(c.dst) & 3) == 0;
    int64_t head = lines ? HeadBytes(c.dst, c.left & ~int64_t{3}) : 0;
    for (; (head & 31) != 0; head -= 4) StepWord<kCopy>(c, sums);
    if (head != 0) StepVector<kCopy, /*kStreaming=*/false>(c, v);
  }
  if (lines) {
    while (c.left >= kLine) {
      Prefetch(c.src, ahead);
      StepVector<kCopy, kStreaming>(c, v);
      StepVector<kCopy, kStreaming>(c, v);
    }
  }
  while (c.left >= 32) {
    Prefetch(c.src, ahead);
    StepVector<kCopy, /*kStreaming=*/false>(c, v);
  }
  while (c.left >= 4) StepWord<kCopy>(c, sums);
  if (c.left > 0) StepPart<kCopy>(c, sums, c.left);
}

template <bool kCopy, bool kStreaming>
SLUICE_AVX2 void DigestRowsImpl(const Rows& rows, Digest& digest) {
  const int64_t ahead = PrefetchDistance(rows);
  VectorSums v;
  Clear(v);
  BlockSums sums;
  Digest total;
  for (RowSegments<kCopy> at(rows); at.Next();) {
    if (at.block != sums.block) {
      Fold(v, sums, total);
      sums.block = at.block;
    }
    DigestSegment<kCopy, kStreaming>({at.src, at.dst, at.offset, at.bytes},
                                     ahead, v, sums);
  }
  Fold(v, sums, total);
  digest += total;
}

// Rows of whole cache lines at both ends: no head and no tail to look for,
// which rows of two lines feel. `rows` is a copy: bytes that are stored could
// alias it, and it would be read again after each.
SLUICE_AVX2_INLINE void StreamLines(const Rows rows, int64_t ahead) {
  const std::byte* src = rows.src;
  std::byte* dst = rows.dst;
  for (int64_t i = 0; i < rows.count; ++i) {
    for (int64_t at = 0; at < rows.bytes; at += kLine) {
      Prefetch(src + at, ahead);
      const __m256i a = Load(src + at);
      const __m256i b = Load(src + at + 32);
      Stream(dst + at, a);
      Stream(dst + at + 32, b);
    }
    src += rows.src_stride, dst += rows.dst_stride;
  }
}

template <bool kStreaming>
SLUICE_AVX2 void CopyRowsImpl(const Rows& rows) {
  const int64_t ahead = PrefetchDistance(rows);
  if (kStreaming && rows.bytes % kLine == 0 && rows.dst_stride % kLine == 0 &&
      HeadBytes(rows.dst, kLine) == 0) {
    StreamLines(rows, ahead);
    return;
  }
  const std::byte* src = rows.src;
  std::byte* dst = rows.dst;
  for (int64_t i = 0; i < rows.count; ++i) {
    CopyRun<kStreaming>(dst, src, rows.bytes, ahead);
    src += rows.src_stride, dst += rows.dst_stride;
  }
}

}  // namespace

bool Avx2Supported() { return __builtin_cpu_supports("avx2") != 0; }

SLUICE_AVX2 void CopyRowsAvx2(const Rows& rows, bool streaming) {
  if (streaming) {
    CopyRowsImpl<true>(rows);
    _mm_sfence();
  } else {
    CopyRowsImpl<false>(rows);
  }
}

SLUICE_AVX2 void CopyAndDigestRowsAvx2(const Rows& rows, bool streaming,
                                       Digest& digest) {
  if (streaming) {
    DigestRowsImpl</*kCopy=*/true, /*kStreaming=*/true>(rows, digest);
    _mm_sfence();
  } else {
    DigestRowsImpl</*kCopy=*/true, /*kStreaming=*/false>(rows, digest);
  }
}

SLUICE_AVX2 void DigestRowsAvx2(const Rows& rows, Digest& digest) {
  DigestRowsImpl</*kCopy=*/false, /*kStreaming=*/false>(rows, digest);
}

}  // namespace sluice::agent::copy_internal

#else  // not x86-64

namespace sluice::agent::copy_internal {

bool Avx2Supported() { return false; }
void CopyRowsAvx2(const Rows&, bool) { std::abort(); }
void CopyAndDigestRowsAvx2(const Rows&, bool, Digest&) { std::abort(); }
void DigestRowsAvx2(const Rows&, Digest&) { std::abort(); }

}  // namespace sluice::agent::copy_internal

#endif
