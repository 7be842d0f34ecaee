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

// Calls visit(plain address, quantised address) for each group that is the
// thread's.
template <int kCount, typename Visit>
SLUICE_KERNEL_FUNCTION void ForGroups(const QuantBlock& block, uint32_t element,
                                      uint32_t thread, Visit& visit) {
  const uint32_t per_row = block.cols / kCount;
  const uint32_t groups = per_row * block.rows;
  for (uint32_t g = thread; g < groups; g += kBlockThreads) {
    const uint32_t row = g / per_row;
    const uint32_t col = (g - row * per_row) * kCount;
    visit(
        block.plain + uint64_t{row} * uint64_t(block.plain_row) +
            uint64_t{col} * element,
        block.quantised + uint64_t{row} * uint64_t(block.quantised_row) + col);
  }
}

template <typename Plain, int kCount>
struct AmaxVisitor {
  SLUICE_KERNEL_FUNCTION void operator()(uint64_t plain, uint64_t) {
    const auto values = Load<AlignedGroup<Plain, kCount>>(plain);
    SLUICE_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const uint32_t bits = AmaxBits(WidenToF32(values.element[i]));
      amax = bits > amax ? bits : amax;
    }
  }
  uint32_t amax = 0;
};

template <typename Plain, int kCount>
struct QuantiseVisitor {
  SLUICE_KERNEL_FUNCTION void operator()(uint64_t plain, uint64_t quantised) {
    const auto values = Load<AlignedGroup<Plain, kCount>>(plain);
    AlignedGroup<uint8_t, kCount> codes;
    SLUICE_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const float value =
          copy_internal::AsFloat(WidenToF32(values.element[i])) / scale;
      // A quotient of a NaN is one too, but its sign is the processor's choice.
      const uint32_t bits = WidenToF32(values.element[i]);
      const bool is_nan = (bits & 0x7fffffff) > copy_internal::kInf32;
      codes.element[i] = EncodeE4m3(is_nan ? bits : copy_internal::Bits(value));
    }
    Store(quantised, codes);
  }
  float scale = 1.0f;
};

template <typename Plain, int kCount>
struct DequantiseVisitor {
  SLUICE_KERNEL_FUNCTION void operator()(uint64_t plain, uint64_t quantised) {
    const auto codes = Load<AlignedGroup<uint8_t, kCount>>(quantised);
    AlignedGroup<Plain, kCount> values;
    SLUICE_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const uint32_t bits = DecodeE4m3(codes.element[i]);
      const bool is_nan = (bits & 0x7fffffff) > copy_internal::kInf32;
      const float product = copy_internal::AsFloat(bits) * scale;
      values.element[i] =
          NarrowFromF32<Plain>(is_nan ? bits : copy_internal::Bits(product));
    }
    Store(plain, values);
  }
  float scale = 1.0f;
};

// The largest magnitude that one thread finds in its part of a block, as bits.
template <typename Plain>
SLUICE_KERNEL_FUNCTION uint32_t BlockAmax(const QuantBlock& block,
                                          uint32_t thread) {
  if (block.group_log2 == 3) {
    AmaxVisitor<Plain, 8> visitor;
    ForGroups<8>(block, sizeof(Plain), thread, visitor);
    return visitor.amax;
  }
  AmaxVisitor<Plain, 1> visitor;
  ForGroups<1>(block, sizeof(Plain), thread, visitor);
  return visitor.amax;
}

template <typename Plain>
SLUICE_KERNEL_FUNCTION void QuantiseBlock(const QuantBlock& block, float scale,
                                          uint32_t thread) {
  if (block.group_log2 == 3) {
    QuantiseVisitor<Plain, 8> visitor{scale};
    ForGroups<8>(block, sizeof(Plain), thread, visitor);
    return;
  }
  QuantiseVisitor<Plain, 1> visitor{scale};
  ForGroups<1>(block, sizeof(Plain), thread, visitor);
}

template <typename Plain>
SLUICE_KERNEL_FUNCTION void DequantiseBlock(const QuantBlock& block,
                                            uint32_t thread) {
  const float scale =
      Load<Group<float, 1, alignof(float)>>(block.scale).element[0];
  if (block.group_log2 == 3) {
    DequantiseVisitor<Plain, 8> visitor{scale};
    ForGroups<8>(block, sizeof(Plain), thread, visitor);
    return;
  }
  DequantiseVisitor<Plain, 1> visitor{scale};
  ForGroups<1>(block, sizeof(Plain), thread, visitor);
}

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_QUANT_MATH_H_
