#ifndef SLUICE_AGENT_CUDA_PIECE_BOXES_H_
#define SLUICE_AGENT_CUDA_PIECE_BOXES_H_

// From a range of a piece's stream to boxes for kernels: a range of a row-major
// sequence is at most two boxes for each dimension and one in the middle.

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "agent/cuda/box_list.h"
#include "agent/executor/piece_mover.h"
#include "agent/executor_interface.h"

namespace sluice::agent::cuda {

// Where a piece's elements lie as a kernel sees them: strided in a place, or as
// the packed bytes of the piece's stream.
struct Elements {
  uint64_t first = 0;            // address of the piece's first element
  std::vector<int64_t> strides;  // bytes
  int64_t bytes = 0;             // of an element
};

// The piece in a place, and packed with byte `range.lo` of it at `address`.
Elements InPlace(const BoundPiece& piece, const BoundPlace& place);
Elements Packed(const PieceRange& range, uint64_t address);

// Adds the range as a copy, without a cast. Errors: BoxList's.
absl::Status AddCopy(const PieceRange& range, const Elements& from,
                     const Elements& to, BoxList& list);
// Adds the range's digest, as `from`, which has the piece's own type, has it.
absl::Status AddDigest(const PieceRange& range, const Elements& from,
                       uint32_t slot, BoxList& list);
// Adds the range as a cast. Errors: INVALID_ARGUMENT - the range cuts an
// element, or elements do not lie at multiples of their size.
absl::Status AddCast(const PieceRange& range, const Elements& from,
                     const Elements& to, BoxList& list);

// A copy for the copy engines: rows that lie `pitch` bytes apart.
struct RowCopy {
  uint64_t dst = 0;
  uint64_t src = 0;
  int64_t dst_pitch = 0;
  int64_t src_pitch = 0;
  int64_t width = 0;  // bytes of a row
  int64_t rows = 1;
};

// Where copy engines take a copy: rows so long that they are not bound by their
// number, and on average so much for each call that calling is not what counts.
inline constexpr int64_t kEngineRowBytes = 16 << 10;
inline constexpr int64_t kEngineCallBytes = 64 << 10;

// The range, without a cast, as copies of long rows; nullopt where some of it
// lies otherwise: then kernels copy it.
std::optional<std::vector<RowCopy>> LongRows(const PieceRange& range,
                                             const Elements& from,
                                             const Elements& to);

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_PIECE_BOXES_H_
