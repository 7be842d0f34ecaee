#ifndef SLUICE_AGENT_CUDA_QUANT_LIST_H_
#define SLUICE_AGENT_CUDA_QUANT_LIST_H_

// Lists of matrices for one launch that quantises or dequantises them; what is
// computed is defined in fp8_math.h. Not thread-safe.

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "agent/cuda/descriptors.h"

namespace sluice::agent::cuda {

// A matrix of F32, BF16 or F16, its F8_E4M3 form, and its scales: one F32 for
// each block of block_rows x block_cols, row-major, blocks cut at the edges.
struct QuantPlace {
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t block_rows = 128;
  int64_t block_cols = 128;
  uint64_t plain = 0;     // addresses
  int64_t plain_row = 0;  // bytes from row to row
  uint64_t quantised = 0;
  int64_t quantised_row = 0;
  uint64_t scales = 0;
  int64_t scale_row = 0;
};

class QuantList {
 public:
  // Adds a matrix whose plain form is of `element`; an empty one adds nothing.
  // Errors: INVALID_ARGUMENT - F64, a size below zero or above 2^31 - 1, a
  // block without elements or of more than 2^24, rows that overlap, an address
  // that is not a multiple of its element's size; RESOURCE_EXHAUSTED - more
  // than 2^31 blocks in all.
  absl::Status Add(const QuantPlace& place, Element element);

  const std::vector<QuantDescriptor>& matrices() const { return matrices_; }
  uint32_t blocks() const { return blocks_; }
  // The list with its matrices at `matrices`, where the kernel can read them.
  QuantBatch Batch(const QuantDescriptor* matrices) const {
    return {matrices, static_cast<uint32_t>(matrices_.size()), blocks_};
  }

 private:
  std::vector<QuantDescriptor> matrices_;
  uint32_t blocks_ = 0;
};

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_QUANT_LIST_H_
