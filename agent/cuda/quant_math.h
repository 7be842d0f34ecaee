#ifndef SLUICE_AGENT_CUDA_QUANT_MATH_H_
#define SLUICE_AGENT_CUDA_QUANT_MATH_H_

// What one thread does of a block of a quantised matrix; see kernel_math.h for
// how these functions are used and fp8_math.h for what is computed.

#include <cstdint>

#include "agent/copy/cast_math.h"
#include "agent/cuda/descriptors.h"
#include "agent/cuda/fp8_math.h"
#include "agent/cuda/kernel_math.h"

namespace sluice::agent::cuda {

// One block of one matrix, cut at the matrix's edges.
struct QuantBlock {
  uint64_t plain = 0;      // addresses of its first element
  uint64_t quantised = 0;  //
  uint64_t scale = 0;
  int64_t plain_row = 0;
  int64_t quantised_row = 0;
  uint32_t rows = 0;
  uint32_t cols = 0;
  uint32_t group_log2 = 0;
};

// Finds block `index` of all matrices; `element` is the plain type's bytes.
SLUICE_KERNEL_FUNCTION QuantBlock LocateBlock(const QuantBatch& batch,
                                              uint32_t index,
                                              uint32_t element) {
  uint32_t lo = 0;
  uint32_t hi = batch.count;
  while (hi - lo > 1) {
    const uint32_t middle = lo + (hi - lo) / 2;
    if (batch.matrices[middle].first_block <= index) {
      lo = middle;
    } else {
      hi = middle;
    }
  }
  const QuantDescriptor& matrix = batch.matrices[lo];
  const uint32_t inside = index - matrix.first_block;
  const uint32_t block_row = Divide(inside, matrix.blocks_per_row);
  const uint32_t block_col = inside - block_row * matrix.blocks_per_row.divisor;
  const uint32_t row = block_row * matrix.block_rows;
  const uint32_t col = block_col * matrix.block_cols;
  QuantBlock block;
  block.plain = matrix.plain + uint64_t{row} * uint64_t(matrix.plain_row) +
                uint64_t{col} * element;
  block.quantised =
      matrix.quantised + uint64_t{row} * uint64_t(matrix.quantised_row) + col;
  block.scale = matrix.scales +
                uint64_t{block_row} * uint64_t(matrix.scale_row) +
                uint64_t{block_col} * sizeof(float);
  block.plain_row = matrix.plain_row;
  block.quantised_row = matrix.quantised_row;
  const uint32_t rows_left = matrix.rows - row;
  const uint32_t cols_left = matrix.cols - col;
  block.rows = rows_left < matrix.block_rows ? rows_left : matrix.block_rows;
  block.cols = cols_left < matrix.block_cols ? cols_left : matrix.block_cols;
  block.group_log2 = matrix.group_log2;
  return block;
}

// A thread's groups of kCount elements of a block, one after the other: every
// kBlockThreads-th. Steps from one to the next without a division.
template <int kCount>
class GroupCursor {
 public:
  SLUICE_KERNEL_FUNCTION GroupCursor(const QuantBlock& block, uint32_t element,
                                     uint32_t thread)
      : per_row_(block.cols / kCount),
        group_(thread),
        groups_(per_row_ * block.rows) {
    const uint32_t row = thread / per_row_;
    col_ = thread - row * per_row_;
    plain_ = block.plain + uint64_t{row} * uint64_t(block.plain_row) +
             uint64_t{col_} * kCount * element;
    quantised_ = block.quantised +
                 uint64_t{row} * uint64_t(block.quantised_row) +
                 uint64_t{col_} * kCount;
    const uint32_t rows = kBlockThreads / per_row_;
    step_cols_ = kBlockThreads - rows * per_row_;
    plain_step_ = uint64_t{rows} * uint64_t(block.plain_row) +
                  uint64_t{step_cols_} * kCount * element;
    quantised_step_ = uint64_t{rows} * uint64_t(block.quantised_row) +
                      uint64_t{step_cols_} * kCount;
    // From behind a row to the start of the next one.
    plain_wrap_ =
        uint64_t(block.plain_row) - uint64_t{per_row_} * kCount * element;
    quantised_wrap_ =
        uint64_t(block.quantised_row) - uint64_t{per_row_} * kCount;
  }

  SLUICE_KERNEL_FUNCTION bool Done() const { return group_ >= groups_; }
  SLUICE_KERNEL_FUNCTION void Next() {
    group_ += kBlockThreads;
    plain_ += plain_step_;
    quantised_ += quantised_step_;
    col_ += step_cols_;
    if (col_ >= per_row_) {
      col_ -= per_row_;
      plain_ += plain_wrap_;
      quantised_ += quantised_wrap_;
    }
  }
  SLUICE_KERNEL_FUNCTION uint64_t plain() const { return plain_; }
  SLUICE_KERNEL_FUNCTION uint64_t quantised() const { return quantised_; }

 private:
  uint32_t per_row_;
  uint32_t group_;
  uint32_t groups_;
  uint32_t col_ = 0;
  uint32_t step_cols_ = 0;
  uint64_t plain_ = 0;
  uint64_t quantised_ = 0;
  uint64_t plain_step_ = 0;
  uint64_t quantised_step_ = 0;
  uint64_t plain_wrap_ = 0;
  uint64_t quantised_wrap_ = 0;
};

template <typename Plain, int kCount>
SLUICE_KERNEL_FUNCTION uint32_t
GroupAmax(const AlignedGroup<Plain, kCount>& values) {
  uint32_t amax = 0;
  SLUICE_UNROLL
  for (int i = 0; i < kCount; ++i) {
    const uint32_t bits = AmaxBits(WidenToF32(values.element[i]));
    amax = bits > amax ? bits : amax;
  }
  return amax;
}

template <typename Plain, int kCount, bool kDivides = false>
SLUICE_KERNEL_FUNCTION void QuantiseGroup(
    const AlignedGroup<Plain, kCount>& values, const BlockScale& scale,
    uint64_t quantised) {
  AlignedGroup<uint8_t, kCount> codes;
  SLUICE_UNROLL
  for (int i = 0; i < kCount; ++i) {
    const uint32_t bits = WidenToF32(values.element[i]);
    codes.element[i] =
        kDivides ? DivideE4m3(bits, scale.scale) : ScaleE4m3(bits, scale);
  }
  Store(quantised, codes);
}

// What one thread does of a block that is quantised: first Amax(), then, when
// the largest of all threads is known, Encode(). Where the thread's groups are
// few enough (128 x 128 elements, for one) they are loaded once, together, and
// kept in between: in registers, as all loops over them are unrolled.
template <typename Plain>
class BlockQuantiser {
 public:
  // The largest magnitude of the thread's elements, as bits.
  SLUICE_KERNEL_FUNCTION uint32_t Amax(const QuantBlock& block,
                                       uint32_t thread) {
    if (!Grouped(block)) return AmaxOf<1>(block, thread);
    if (!Held(block)) return AmaxOf<kGroup>(block, thread);
    GroupCursor<kGroup> at(block, sizeof(Plain), thread);
    SLUICE_UNROLL
    for (int i = 0; i < kHeld; ++i, at.Next()) {
      held_[i] = Values{};
      if (!at.Done()) held_[i] = Load<Values>(at.plain());
    }
    uint32_t amax = 0;
    SLUICE_UNROLL
    for (int i = 0; i < kHeld; ++i) {
      const uint32_t bits = GroupAmax<Plain, kGroup>(held_[i]);
      amax = bits > amax ? bits : amax;
    }
    return amax;
  }

  SLUICE_KERNEL_FUNCTION void Encode(const QuantBlock& block, float scale,
                                     uint32_t thread) const {
    const BlockScale by = PrepareScale(scale);
    // Rare: one small loop for all blocks, as a division is long.
    if (by.divides) {
      return Grouped(block) ? EncodeOf<kGroup, true>(block, by, thread)
                            : EncodeOf<1, true>(block, by, thread);
    }
    if (!Grouped(block)) return EncodeOf<1>(block, by, thread);
    if (!Held(block)) return EncodeOf<kGroup>(block, by, thread);
    GroupCursor<kGroup> at(block, sizeof(Plain), thread);
    SLUICE_UNROLL
    for (int i = 0; i < kHeld; ++i, at.Next()) {
      if (at.Done()) break;
      QuantiseGroup<Plain, kGroup>(held_[i], by, at.quantised());
    }
  }

 private:
  static constexpr int kGroup = 8;
  static constexpr int kHeld = 8;
  using Values = AlignedGroup<Plain, kGroup>;

  SLUICE_KERNEL_FUNCTION static bool Grouped(const QuantBlock& block) {
    return block.group_log2 == 3;
  }
  SLUICE_KERNEL_FUNCTION static bool Held(const QuantBlock& block) {
    return block.rows * block.cols <= kHeld * kGroup * kBlockThreads;
  }
  template <int kCount>
  SLUICE_KERNEL_FUNCTION static uint32_t AmaxOf(const QuantBlock& block,
                                                uint32_t thread) {
    uint32_t amax = 0;
    GroupCursor<kCount> at(block, sizeof(Plain), thread);
    for (; !at.Done(); at.Next()) {
      const uint32_t bits = GroupAmax<Plain, kCount>(
          Load<AlignedGroup<Plain, kCount>>(at.plain()));
      amax = bits > amax ? bits : amax;
    }
    return amax;
  }
  template <int kCount, bool kDivides = false>
  SLUICE_KERNEL_FUNCTION static void EncodeOf(const QuantBlock& block,
                                              const BlockScale& by,
                                              uint32_t thread) {
    GroupCursor<kCount> at(block, sizeof(Plain), thread);
    for (; !at.Done(); at.Next()) {
      QuantiseGroup<Plain, kCount, kDivides>(
          Load<AlignedGroup<Plain, kCount>>(at.plain()), by, at.quantised());
    }
  }

  Values held_[kHeld];
};

template <typename Plain, int kCount>
SLUICE_KERNEL_FUNCTION void DequantiseGroups(const QuantBlock& block,
                                             float scale, uint32_t thread) {
  GroupCursor<kCount> at(block, sizeof(Plain), thread);
  for (; !at.Done(); at.Next()) {
    const auto codes = Load<AlignedGroup<uint8_t, kCount>>(at.quantised());
    AlignedGroup<Plain, kCount> values;
    SLUICE_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const uint32_t bits = DecodeE4m3(codes.element[i]);
      const bool is_nan = (bits & 0x7fffffff) > copy_internal::kInf32;
      const float product = copy_internal::AsFloat(bits) * scale;
      values.element[i] =
          NarrowFromF32<Plain>(is_nan ? bits : copy_internal::Bits(product));
    }
    Store(at.plain(), values);
  }
}

template <typename Plain>
SLUICE_KERNEL_FUNCTION void DequantiseBlock(const QuantBlock& block,
                                            uint32_t thread) {
  const float scale =
      Load<Group<float, 1, alignof(float)>>(block.scale).element[0];
  if (block.group_log2 == 3) {
    DequantiseGroups<Plain, 8>(block, scale, thread);
  } else {
    DequantiseGroups<Plain, 1>(block, scale, thread);
  }
}

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_QUANT_MATH_H_
