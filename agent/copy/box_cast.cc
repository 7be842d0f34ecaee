#include "agent/copy/box_cast.h"

#include <algorithm>
#include <cstring>

#include "agent/copy/copy_kernels.h"

namespace sluice::agent::copy_internal {
namespace {

// Shorter rows are cast by columns: fewer, longer loops.
constexpr int64_t kShortRow = 8;
constexpr int64_t kMaxElementBytes = 8;

// Calls cast(n, place, place_stride, wire, wire_stride) for all of the elements
// [first, last), which lie densely from `dense` on.
template <typename CastRows>
void ForRows(const CastSide& side, int64_t first, int64_t last,
             std::byte* memory, std::byte* dense, CastRows cast) {
  const int64_t size = side.element_bytes;
  LoopWalker::Walk(
      side.memory, first * size, last * size, [&](const LoopWalker::Batch& b) {
        const int64_t n = b.bytes / size;
        const int64_t stride = b.stride.*side.space;
        std::byte* place = memory + side.offset + b.offset.*side.space;
        std::byte* wire = dense + (b.sequence / size - first) * side.wire_bytes;
        if (n < kShortRow && n < b.count) {
          for (int64_t i = 0; i < n; ++i) {
            cast(b.count, place + i * size, stride, wire + i * side.wire_bytes,
                 n * side.wire_bytes);
          }
          return;
        }
        for (int64_t i = 0; i < b.count; ++i) {
          cast(n, place + i * stride, size, wire + i * n * side.wire_bytes,
               side.wire_bytes);
        }
      });
}

void ReadElements(const CastSide& side, int64_t first, int64_t last,
                  const std::byte* memory, std::byte* dense) {
  // Never written: the constness is dropped to share the loops.
  ForRows(side, first, last, const_cast<std::byte*>(memory), dense,
          [&](int64_t n, std::byte* place, int64_t place_stride,
              std::byte* wire, int64_t wire_stride) {
            side.to_wire(n, place, place_stride, wire, wire_stride);
          });
}

void WriteElements(const CastSide& side, int64_t first, int64_t last,
                   const std::byte* dense, std::byte* memory) {
  ForRows(side, first, last, memory, const_cast<std::byte*>(dense),
          [&](int64_t n, std::byte* place, int64_t place_stride,
              std::byte* wire, int64_t wire_stride) {
            side.from_wire(n, wire, wire_stride, place, place_stride);
          });
}

// Splits bytes [lo, hi) into whole elements, whole(first, last), and parts of
// one, part(element, from, to) with offsets inside it; in order.
template <typename Whole, typename Part>
void SplitElements(int64_t lo, int64_t hi, int64_t size, Whole whole,
                   Part part) {
  if (lo % size != 0) {
    const int64_t end = std::min(hi, (lo / size + 1) * size);
    part(lo / size, lo % size, lo % size + (end - lo));
    lo = end;
  }
  if (hi - lo >= size) {
    whole(lo / size, hi / size);
    lo = hi / size * size;
  }
  if (lo < hi) part(lo / size, int64_t{0}, hi - lo);
}

void ReadBytes(const CastSide& side, int64_t lo, int64_t hi,
               const std::byte* memory, std::byte* out) {
  const int64_t size = side.wire_bytes;
  SplitElements(
      lo, hi, size,
      [&](int64_t first, int64_t last) {
        ReadElements(side, first, last, memory, out + (first * size - lo));
      },
      [&](int64_t element, int64_t from, int64_t to) {
        std::byte value[kMaxElementBytes];
        ReadElements(side, element, element + 1, memory, value);
        std::memcpy(out + (element * size + from - lo), value + from,
                    static_cast<size_t>(to - from));
      });
}

void WriteBytes(const CastSide& side, int64_t lo, int64_t hi,
                const std::byte* in, std::byte* memory) {
  const int64_t size = side.wire_bytes;
  SplitElements(
      lo, hi, size,
      [&](int64_t first, int64_t last) {
        WriteElements(side, first, last, in + (first * size - lo), memory);
      },
      [&](int64_t element, int64_t from, int64_t to) {
        std::byte value[kMaxElementBytes];
        ReadElements(side, element, element + 1, memory, value);
        std::memcpy(value + from, in + (element * size + from - lo),
                    static_cast<size_t>(to - from));
        WriteElements(side, element, element + 1, value, memory);
      });
}

// Adds the digest of bytes [lo, hi) of the sequence, which lie densely.
void DigestDense(const CastSide& side, int64_t lo, int64_t hi,
                 const std::byte* dense, Digest& digest) {
  LoopWalker::Walk(side.logical, lo, hi, [&](const LoopWalker::Batch& b) {
    DigestRows(BestIsa(),
               {.src = dense + (b.sequence - lo),
                .dst = nullptr,
                .count = b.count,
                .bytes = b.bytes,
                .src_stride = b.bytes,
                .dst_stride = 0,
                .logical = side.logical_offset + b.offset.logical,
                .logical_stride = b.stride.logical},
               digest);
  });
}

}  // namespace

void PackCast(const CastSide& side, int64_t lo, int64_t hi, const void* memory,
              void* packed, Digest* digest) {
  ForCastBlocks(lo, hi, [&](int64_t at, int64_t end) {
    std::byte* block = static_cast<std::byte*>(packed) + (at - lo);
    ReadBytes(side, at, end, static_cast<const std::byte*>(memory), block);
    if (digest != nullptr) DigestDense(side, at, end, block, *digest);
  });
}

void UnpackCast(const CastSide& side, int64_t lo, int64_t hi,
                const void* packed, void* memory, Digest* digest) {
  ForCastBlocks(lo, hi, [&](int64_t at, int64_t end) {
    const std::byte* block = static_cast<const std::byte*>(packed) + (at - lo);
    if (digest != nullptr) DigestDense(side, at, end, block, *digest);
    WriteBytes(side, at, end, block, static_cast<std::byte*>(memory));
  });
}

void DigestCast(const CastSide& side, int64_t lo, int64_t hi,
                const void* memory, Digest& digest) {
  alignas(64) std::byte block[kCastBlockBytes];
  ForCastBlocks(lo, hi, [&](int64_t at, int64_t end) {
    PackCast(side, at, end, memory, block, &digest);
  });
}

}  // namespace sluice::agent::copy_internal
