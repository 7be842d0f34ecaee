#ifndef SLUICE_AGENT_COPY_BOX_COPY_H_
#define SLUICE_AGENT_COPY_BOX_COPY_H_

// Copies of a logical box between two strided local memories, with the digest
// of what was copied made in the same pass.
//
// The box's elements, in row-major order of its logical dimensions, are a byte
// sequence [0, num_bytes()): the canonical stream in which a box crosses the
// network, is packed into buckets and is cut into chunks. Every function has a
// form for a range of that sequence; ranges may start and end anywhere.
//
// Thread rule: a BoxCopy is an immutable value. Functions are thread-safe for
// disjoint destinations.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/box.h"
#include "common/digest_value.h"
#include "common/dtype.h"
#include "common/model.h"

namespace sluice::agent {

// Where the first element of a box lies in a memory, and how far apart elements
// are: element lo + i lies at offset_bytes + sum_d i[d] * strides_bytes[d].
struct StridedPlace {
  int64_t offset_bytes = 0;
  std::vector<int64_t> strides_bytes;  // one per logical dimension

  friend bool operator==(const StridedPlace&, const StridedPlace&) = default;
};

// Returns where `piece` lies in the buffer that holds `param`.
// Errors: INVALID_ARGUMENT - ranks disagree, the piece is outside the view, the
// parameter is of another dtype, or an element would lie outside the parameter.
absl::StatusOr<StridedPlace> PlaceInView(const TensorSpec& tensor,
                                         const Box& piece, const View& view,
                                         const LocalParam& param);

// Returns the place of a box that is stored alone, row-major, from `offset`.
StridedPlace DensePlace(const Box& box, DType dtype, int64_t offset_bytes = 0);

// Verifies that every element of `box` at `place` lies in [0, memory_bytes).
// Errors: INVALID_ARGUMENT - it does not, or the number of strides is wrong.
absl::Status CheckPlace(const StridedPlace& place, const Box& box, DType dtype,
                        int64_t memory_bytes);

// Whether stores go past the caches: for bytes that are not read next.
enum class Stores { kStreaming, kCached };

class BoxCopy {
 public:
  // Describes the copy of `box` of a tensor of `shape`. An empty box gives a
  // copy of no bytes.
  // Errors: INVALID_ARGUMENT - unknown dtype, ranks disagree, the box is not
  // inside the shape, or sizes overflow.
  static absl::StatusOr<BoxCopy> Create(DType dtype,
                                        absl::Span<const int64_t> shape,
                                        const Box& box,
                                        const StridedPlace& source,
                                        const StridedPlace& destination);

  // Describes reading only: pack and digest functions may be used.
  static absl::StatusOr<BoxCopy> ForSource(DType dtype,
                                           absl::Span<const int64_t> shape,
                                           const Box& box,
                                           const StridedPlace& source);

  int64_t num_bytes() const { return num_bytes_; }

  // Returns the offset in the source (destination) at which the bytes [lo, hi)
  // of the sequence lie in one piece; nullopt where they are scattered.
  std::optional<int64_t> SourceRun(int64_t lo, int64_t hi) const;
  std::optional<int64_t> DestinationRun(int64_t lo, int64_t hi) const;

  // Longest contiguous runs on both sides at once, in bytes.
  int64_t run_bytes() const { return plain_.run_bytes; }

 private:
  friend class BoxCopyWalker;
  friend struct BoxCopyAccess;

  // A loop over `count` positions, and the byte distance of neighbours in each
  // space.
  struct Dim {
    int64_t count = 1;
    int64_t logical = 0;
    int64_t src = 0;
    int64_t dst = 0;
  };
  // Loops from the outermost to the innermost, around contiguous runs. Their
  // product times run_bytes is num_bytes.
  struct Loops {
    std::vector<Dim> dims;
    int64_t run_bytes = 0;
  };
  // Which spaces must be contiguous (or equally strided) for loops to be
  // joined.
  struct Joint {
    bool logical = false;
    bool src = false;
    bool dst = false;
  };

  BoxCopy() = default;
  static Loops Collapse(const std::vector<Dim>& dims, int64_t element_bytes,
                        Joint joint);

  int64_t num_bytes_ = 0;
  int64_t src_offset_ = 0;
  int64_t dst_offset_ = 0;
  int64_t logical_offset_ = 0;
  Loops plain_;          // joint in source and destination
  Loops hashed_;         // and in logical offsets
  Loops hashed_source_;  // in source and logical offsets
  Loops hashed_destination_;
  Loops source_;  // in the source alone
  Loops destination_;
};

// Copies the box from `source` to `destination` (the memories' first bytes).
// Adds the digest of the copied bytes to `digest` unless it is null.
void CopyBox(const BoxCopy& copy, const void* source, void* destination,
             Stores stores, Digest* digest);

// Copies bytes [lo, hi) of the sequence, from place to place.
void CopyBoxRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                  const void* source, void* destination, Stores stores,
                  Digest* digest);

// Copies bytes [lo, hi) of the sequence into `packed`, hi - lo bytes.
void PackBoxRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                  const void* source, void* packed, Digest* digest);

// Copies hi - lo bytes from `packed` to where [lo, hi) of the sequence lies.
void UnpackBoxRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                    const void* packed, void* destination, Digest* digest);

// Adds the digest of bytes [lo, hi) of the sequence as they lie in the source
// (in the destination).
void DigestSourceRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                       const void* source, Digest& digest);
void DigestDestinationRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                            const void* destination, Digest& digest);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COPY_BOX_COPY_H_
