#ifndef SLUICE_AGENT_CUDA_KERNEL_MATH_H_
#define SLUICE_AGENT_CUDA_KERNEL_MATH_H_

// What one thread of each kernel does: index arithmetic, loads, stores, casts,
// digest steps. One source of truth: kernels.cu calls these functions from
// __global__ functions, tests call them from host loops over all (block,
// thread) pairs. Threads share nothing here; what they sum is handed to a sink.
//
// Addresses are integers: memory of the GPU in a kernel, of the host in a test.

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "agent/copy/cast_math.h"
#include "agent/copy/digest_keys.h"
#include "agent/copy/host_device.h"
#include "agent/cuda/descriptors.h"

#define SLUICE_KERNEL_FUNCTION SLUICE_HOST_DEVICE SLUICE_ALWAYS_INLINE

#if defined(__CUDA_ARCH__)
#define SLUICE_UNROLL _Pragma("unroll")
#else
#define SLUICE_UNROLL
#endif

namespace sluice::agent::cuda {

// Which thread of which block; `blocks` is how many there are.
struct ThreadPosition {
  uint32_t block = 0;
  uint32_t blocks = 1;
  uint32_t thread = 0;  // of kBlockThreads
};

// ---- Index arithmetic -------------------------------------------------------

SLUICE_KERNEL_FUNCTION FastDivider MakeDivider(uint32_t divisor) {
  FastDivider d;
  d.divisor = divisor;
  while ((uint64_t{1} << d.shift) < divisor) ++d.shift;
  const uint64_t excess = (uint64_t{1} << d.shift) - divisor;
  d.magic = static_cast<uint32_t>((excess << 32) / divisor + 1);
  return d;
}

// Returns n / divisor. Requires n < 2^31.
SLUICE_KERNEL_FUNCTION uint32_t Divide(uint32_t n, const FastDivider& d) {
#if defined(__CUDA_ARCH__)
  const uint32_t high = __umulhi(n, d.magic);
#else
  const auto high = static_cast<uint32_t>((uint64_t{n} * d.magic) >> 32);
#endif
  return (high + n) >> d.shift;
}

// Where a unit lies, from the box's first element.
struct UnitOffsets {
  int64_t src = 0;
  int64_t dst = 0;
  int64_t logical = 0;
};

SLUICE_KERNEL_FUNCTION UnitOffsets LocateUnit(const BoxDescriptor& box,
                                              uint32_t unit) {
  uint32_t row = Divide(unit, box.run);
  const uint32_t column = unit - row * box.run.divisor;
  UnitOffsets at;
  at.src = int64_t{column} * box.src_unit;
  at.dst = int64_t{column} * box.dst_unit;
  at.logical = at.src;
  for (int l = 0; l < box.num_loops; ++l) {
    const Loop& loop = box.loops[l];
    const uint32_t next = Divide(row, loop.count);
    const int64_t index = row - next * loop.count.divisor;
    at.src += index * loop.src;
    at.dst += index * loop.dst;
    at.logical += index * loop.logical;
    row = next;
  }
  return at;
}

// The tiles of one block, in order: an equal share of all, next to each other.
class TileCursor {
 public:
  SLUICE_KERNEL_FUNCTION TileCursor(const BoxBatch& batch,
                                    const ThreadPosition& position)
      : batch_(batch) {
    const uint64_t tiles = batch.tiles;
    tile_ = static_cast<uint32_t>(tiles * position.block / position.blocks);
    end_ =
        static_cast<uint32_t>(tiles * (position.block + 1) / position.blocks);
    // The last box that starts at or before the tile.
    uint32_t lo = 0;
    uint32_t hi = batch.count;
    while (tile_ < end_ && hi - lo > 1) {
      const uint32_t middle = lo + (hi - lo) / 2;
      if (batch.boxes[middle].first_tile <= tile_) {
        lo = middle;
      } else {
        hi = middle;
      }
    }
    box_ = lo;
  }

  SLUICE_KERNEL_FUNCTION bool Done() const { return tile_ >= end_; }
  SLUICE_KERNEL_FUNCTION void Next() {
    ++tile_;
    if (box_ + 1 < batch_.count && batch_.boxes[box_ + 1].first_tile <= tile_) {
      ++box_;  // each box has a tile at least
    }
  }
  SLUICE_KERNEL_FUNCTION const BoxDescriptor& box() const {
    return batch_.boxes[box_];
  }
  // The first unit that `thread` does of the tile: warps take stretches,
  // threads of a warp neighbours; the next ones are kWarpThreads apart.
  SLUICE_KERNEL_FUNCTION uint32_t FirstUnit(uint32_t thread,
                                            uint32_t steps) const {
    const uint32_t tile = tile_ - box().first_tile;
    return (tile * kBlockThreads + thread / kWarpThreads * kWarpThreads) *
               steps +
           thread % kWarpThreads;
  }

 private:
  const BoxBatch& batch_;
  uint32_t tile_ = 0;
  uint32_t end_ = 0;
  uint32_t box_ = 0;
};

// ---- Memory -----------------------------------------------------------------

// kCount elements that lie together, loaded and stored at once: kAlign is the
// alignment that their address has.
template <typename T, int kCount, int kAlign>
struct __attribute__((may_alias, aligned(kAlign))) Group {
  T element[kCount];
};

// Of kBytes bytes, at most 16 to an access.
template <typename T, int kCount>
using AlignedGroup =
    Group<T, kCount, (sizeof(T) * kCount < 16 ? sizeof(T) * kCount : 16)>;

template <typename G>
SLUICE_KERNEL_FUNCTION G Load(uint64_t address) {
  return *reinterpret_cast<const G*>(static_cast<uintptr_t>(address));
}
template <typename G>
SLUICE_KERNEL_FUNCTION void Store(uint64_t address, const G& value) {
  *reinterpret_cast<G*>(static_cast<uintptr_t>(address)) = value;
}

// ---- Copies: pack, unpack, and place to place -------------------------------

template <typename G>
SLUICE_KERNEL_FUNCTION void CopyTile(const BoxDescriptor& box, uint32_t first) {
  // Read once: the compiler cannot know that no store is to the descriptor.
  const uint32_t units = box.units;
  G values[kCopySteps];
  uint64_t to[kCopySteps];
  SLUICE_UNROLL
  for (uint32_t s = 0; s < kCopySteps; ++s) {
    const uint32_t unit = first + s * kWarpThreads;
    if (unit >= units) break;
    const UnitOffsets at = LocateUnit(box, unit);
    to[s] = box.dst + static_cast<uint64_t>(at.dst);
    values[s] = Load<G>(box.src + static_cast<uint64_t>(at.src));
  }
  SLUICE_UNROLL
  for (uint32_t s = 0; s < kCopySteps; ++s) {
    if (first + s * kWarpThreads >= units) break;
    Store<G>(to[s], values[s]);
  }
}

SLUICE_KERNEL_FUNCTION void CopyThread(const BoxBatch& batch,
                                       const ThreadPosition& position) {
  for (TileCursor tile(batch, position); !tile.Done(); tile.Next()) {
    const BoxDescriptor& box = tile.box();
    const uint32_t first = tile.FirstUnit(position.thread, kCopySteps);
    switch (box.unit_log2) {
      case 4:
        CopyTile<AlignedGroup<uint32_t, 4>>(box, first);
        break;
      case 3:
        CopyTile<AlignedGroup<uint32_t, 2>>(box, first);
        break;
      case 2:
        CopyTile<AlignedGroup<uint32_t, 1>>(box, first);
        break;
      case 1:
        CopyTile<AlignedGroup<uint16_t, 1>>(box, first);
        break;
      default:
        CopyTile<AlignedGroup<uint8_t, 1>>(box, first);
    }
  }
}

// ---- Casts and blends -------------------------------------------------------

template <typename T>
SLUICE_KERNEL_FUNCTION uint32_t WidenToF32(T from) {
  copy_internal::F32 wide;
  copy_internal::Cast(from, wide);
  return wide.bits;
}
SLUICE_KERNEL_FUNCTION uint32_t WidenToF32(copy_internal::F32 from) {
  return from.bits;
}
template <typename T>
SLUICE_KERNEL_FUNCTION T NarrowFromF32(uint32_t bits) {
  T to;
  copy_internal::Cast(copy_internal::F32{bits}, to);
  return to;
}
template <>
SLUICE_KERNEL_FUNCTION copy_internal::F32 NarrowFromF32<copy_internal::F32>(
    uint32_t bits) {
  return copy_internal::F32{bits};
}

// dst = To(src), rounded once.
template <typename From, typename To>
struct CastElement {
  SLUICE_KERNEL_FUNCTION To operator()(From from, const To&) const {
    if constexpr (std::is_same_v<From, To>) {
      return from;
    } else {
      To to;
      copy_internal::Cast(from, to);
      return to;
    }
  }
  static constexpr bool kReadsDestination = false;
};

// dst = To(eta * src + (1 - eta) * dst), in F32: the second product is rounded,
// then a fused multiply-add.
template <typename From, typename To>
struct BlendElement {
  SLUICE_KERNEL_FUNCTION To operator()(From from, const To& old) const {
    const float rest = keep * copy_internal::AsFloat(WidenToF32(old));
    const float sum = fmaf(eta, copy_internal::AsFloat(WidenToF32(from)), rest);
    return NarrowFromF32<To>(copy_internal::Bits(sum));
  }
  static constexpr bool kReadsDestination = true;
  float eta = 1.0f;
  float keep = 0.0f;  // 1 - eta
};

template <int kCount, typename From, typename To, typename Element>
SLUICE_KERNEL_FUNCTION void ElementTile(const BoxDescriptor& box,
                                        uint32_t first, const Element& make) {
  using Source = AlignedGroup<From, kCount>;
  using Target = AlignedGroup<To, kCount>;
  const uint32_t units = box.units;  // as in CopyTile
  Source values[kCopySteps];
  Target results[kCopySteps];
  uint64_t to[kCopySteps];
  SLUICE_UNROLL
  for (uint32_t s = 0; s < kCopySteps; ++s) {
    const uint32_t unit = first + s * kWarpThreads;
    if (unit >= units) break;
    const UnitOffsets at = LocateUnit(box, unit);
    to[s] = box.dst + static_cast<uint64_t>(at.dst);
    values[s] = Load<Source>(box.src + static_cast<uint64_t>(at.src));
    if constexpr (Element::kReadsDestination) results[s] = Load<Target>(to[s]);
  }
  SLUICE_UNROLL
  for (uint32_t s = 0; s < kCopySteps; ++s) {
    if (first + s * kWarpThreads >= units) break;
    SLUICE_UNROLL
    for (int i = 0; i < kCount; ++i) {
      results[s].element[i] = make(values[s].element[i], results[s].element[i]);
    }
    Store<Target>(to[s], results[s]);
  }
}

// `Element` makes an element of `To` from one of `From` and the one that is
// there (which is read only if it says so).
template <typename From, typename To, typename Element>
SLUICE_KERNEL_FUNCTION void ElementThread(const BoxBatch& batch,
                                          const ThreadPosition& position,
                                          const Element& make) {
  for (TileCursor tile(batch, position); !tile.Done(); tile.Next()) {
    const BoxDescriptor& box = tile.box();
    const uint32_t first = tile.FirstUnit(position.thread, kCopySteps);
    switch (box.unit_log2) {
      case 3:
        ElementTile<8, From, To>(box, first, make);
        break;
      case 2:
        ElementTile<4, From, To>(box, first, make);
        break;
      case 1:
        ElementTile<2, From, To>(box, first, make);
        break;
      default:
        ElementTile<1, From, To>(box, first, make);
    }
  }
}

// ---- Digests ----------------------------------------------------------------

// Sums of one thread over one tensor: products with keys are kept apart for as
// long as their factor, mix(block), stays the same.
struct DigestSums {
  uint64_t lane0 = 0;
  uint64_t lane1 = 0;
  uint64_t pending0 = 0;
  uint64_t pending1 = 0;
  uint64_t block = 0;

  SLUICE_KERNEL_FUNCTION void EnterBlock(uint64_t next) {
    if (next == block) return;
    Settle();
    block = next;
  }
  SLUICE_KERNEL_FUNCTION void Settle() {
    constexpr uint64_t kSeed0 = ~digest_internal::kLaneSeed[0];
    constexpr uint64_t kSeed1 = ~digest_internal::kLaneSeed[1];
    lane0 += pending0 * (digest_internal::SplitMix64(kSeed0 + block) | 1);
    lane1 += pending1 * (digest_internal::SplitMix64(kSeed1 + block) | 1);
    pending0 = 0;
    pending1 = 0;
  }
};

// kCount keys of a lane in one access. A unit of several words lies at a
// multiple of its size, in the tensor too, and so do its keys in the table.
template <int kCount>
SLUICE_KERNEL_FUNCTION AlignedGroup<uint32_t, kCount> KeysAt(
    const digest_internal::KeyTable& keys, int lane, uint32_t index) {
  return *reinterpret_cast<const AlignedGroup<uint32_t, kCount>*>(
      &keys.lane[lane][index]);
}

// A unit of T: whole words, or a part of one, which is shifted to its place.
template <typename T, int kCount>
SLUICE_KERNEL_FUNCTION void DigestTile(const BoxDescriptor& box, uint32_t first,
                                       const digest_internal::KeyTable& keys,
                                       DigestSums& sums) {
  using G = AlignedGroup<T, kCount>;
  G values[kDigestSteps];
  uint64_t offset[kDigestSteps];
  SLUICE_UNROLL
  for (uint32_t s = 0; s < kDigestSteps; ++s) {
    const uint32_t unit = first + s * kWarpThreads;
    if (unit >= box.units) break;
    const UnitOffsets at = LocateUnit(box, unit);
    offset[s] = box.logical + static_cast<uint64_t>(at.logical);
    values[s] = Load<G>(box.src + static_cast<uint64_t>(at.src));
  }
  SLUICE_UNROLL
  for (uint32_t s = 0; s < kDigestSteps; ++s) {
    if (first + s * kWarpThreads >= box.units) break;
    const uint64_t word = offset[s] / 4;
    sums.EnterBlock(word / digest_internal::kBlockWords);
    const auto index =
        static_cast<uint32_t>(word % digest_internal::kBlockWords);
    const auto shift = static_cast<uint32_t>(8 * (offset[s] % 4));
    const auto keys0 = KeysAt<kCount>(keys, 0, index);
    const auto keys1 = KeysAt<kCount>(keys, 1, index);
    SLUICE_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const uint32_t part = uint32_t{values[s].element[i]} << shift;
      sums.pending0 += uint64_t{part} * keys0.element[i];
      sums.pending1 += uint64_t{part} * keys1.element[i];
    }
  }
}

// `sink(slot, sums)` takes what the thread has of one tensor; all threads of a
// block call it at the same points.
template <typename Sink>
SLUICE_KERNEL_FUNCTION void DigestThread(const BoxBatch& batch,
                                         const digest_internal::KeyTable& keys,
                                         const ThreadPosition& position,
                                         const Sink& sink) {
  TileCursor tile(batch, position);
  if (tile.Done()) return;
  uint32_t slot = tile.box().slot;
  DigestSums sums;
  for (; !tile.Done(); tile.Next()) {
    const BoxDescriptor& box = tile.box();
    if (box.slot != slot) {
      sums.Settle();
      sink(slot, sums);
      sums = DigestSums{};
      slot = box.slot;
    }
    const uint32_t first = tile.FirstUnit(position.thread, kDigestSteps);
    switch (box.unit_log2) {
      case 4:
        DigestTile<uint32_t, 4>(box, first, keys, sums);
        break;
      case 2:
        DigestTile<uint32_t, 1>(box, first, keys, sums);
        break;
      case 1:
        DigestTile<uint16_t, 1>(box, first, keys, sums);
        break;
      default:
        DigestTile<uint8_t, 1>(box, first, keys, sums);
    }
  }
  sums.Settle();
  sink(slot, sums);
}

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_KERNEL_MATH_H_
