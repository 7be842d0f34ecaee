#ifndef SLUICE_AGENT_CUDA_DESCRIPTORS_H_
#define SLUICE_AGENT_CUDA_DESCRIPTORS_H_

// What kernels are given: lists of boxes and of quantised matrices as plain
// values, made on the host (box_list.h, quant_list.h), read by many threads.
//
// Work is counted in units: as many bytes, or elements of a cast, as one thread
// moves in one access. A tile is what one block of threads does at a time.
// Tiles of all boxes are numbered through, and blocks get equal shares of them:
// work is split by bytes, not by boxes.

#include <cstdint>

namespace sluice::agent::cuda {

// Threads of a block, and of a warp in it.
inline constexpr uint32_t kBlockThreads = 256;
inline constexpr uint32_t kWarpThreads = 32;
// Units that each thread does of one tile.
inline constexpr uint32_t kCopySteps = 4;
inline constexpr uint32_t kDigestSteps = 8;
// Loops around the contiguous runs of one box; boxes with more are cut.
inline constexpr int kMaxLoops = 5;
// Units of a box; larger ones are cut. Below 2^31, as FastDivider needs.
inline constexpr int64_t kMaxBoxUnits = int64_t{1} << 30;

// Division by a number that is known beforehand: a multiplication, an addition
// and a shift (Granlund and Montgomery).
struct FastDivider {
  uint32_t divisor = 1;  // 1 to 2^31 - 1
  uint32_t magic = 1;
  uint32_t shift = 0;
};

// `count` positions; how far apart neighbours are in each space, in bytes.
struct Loop {
  FastDivider count;
  int64_t src = 0;
  int64_t dst = 0;
  int64_t logical = 0;
};

// One box: loops, from the innermost to the outermost, around runs of units
// that are contiguous in all spaces.
struct BoxDescriptor {
  uint64_t src = 0;      // address of the first element
  uint64_t dst = 0;      // unused by digests
  uint64_t logical = 0;  // byte offset of the first element in its tensor
  uint32_t first_tile = 0;
  uint32_t units = 0;
  FastDivider run;  // units of one run
  // Bytes of one unit: equal where nothing is cast.
  uint16_t src_unit = 0;
  uint16_t dst_unit = 0;
  // log2 of the bytes of a unit (copies, digests: 0 to 4) or of its elements
  // (casts, blends: 0 to 3).
  uint16_t unit_log2 = 0;
  uint16_t num_loops = 0;
  uint32_t slot = 0;  // index of the digest the box adds to
  Loop loops[kMaxLoops];
};

// A list of boxes for one launch, in memory that the kernel reads.
struct BoxBatch {
  const BoxDescriptor* boxes = nullptr;
  uint32_t count = 0;
  uint32_t tiles = 0;
};

// Two lanes, as sluice::Digest; written with atomic additions.
struct DigestSlot {
  unsigned long long lane0 = 0;
  unsigned long long lane1 = 0;
};

// A matrix and its quantised form: rows x cols elements, in blocks of
// block_rows x block_cols (smaller at the edges), each with one scale.
struct QuantDescriptor {
  uint64_t plain = 0;      // address of the matrix
  uint64_t quantised = 0;  // of its e4m3 form
  uint64_t scales = 0;     // of the scales, float, row-major
  int64_t plain_row = 0;   // bytes between rows
  int64_t quantised_row = 0;
  int64_t scale_row = 0;  // bytes between rows of scales
  uint32_t rows = 0;
  uint32_t cols = 0;
  uint32_t block_rows = 0;
  uint32_t block_cols = 0;
  FastDivider blocks_per_row;
  uint32_t first_block = 0;
  uint32_t group_log2 = 0;  // elements of one access: 1 or 8
};

struct QuantBatch {
  const QuantDescriptor* matrices = nullptr;
  uint32_t count = 0;
  uint32_t blocks = 0;  // of all matrices
};

// Element types that kernels cast; those below F64 they also blend, quantise
// and dequantise.
enum class Element : int { kF64, kF32, kBF16, kF16 };

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_DESCRIPTORS_H_
