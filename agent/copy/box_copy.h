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
// The sequence has an element type of its own, the wire's. A memory that holds
// another one is cast on the way: from the source's to the wire's, rounding as
// agent/copy/cast_kernels.h says, then from the wire's to the destination's. A
// destination never has less precision than the wire, so what was written gives
// the sequence back, bit by bit. Sizes, ranges and digests are the sequence's;
// a copy from place to place gives what a transfer of it would.
//
// Thread rule: a BoxCopy is an immutable value. Functions are thread-safe for
// disjoint destinations; ranges that share an element of a destination that is
// cast are not.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "agent/copy/box_cast.h"
#include "agent/copy/box_loops.h"
#include "agent/copy/strided_place.h"
#include "common/box.h"
#include "common/digest_value.h"
#include "common/dtype.h"

namespace sluice::agent {

// Whether stores go past the caches: for bytes that are not read next.
enum class Stores { kStreaming, kCached };

// The element types of a copy.
struct CopyTypes {
  // All three alike: nothing is cast.
  static CopyTypes Same(DType dtype) { return {dtype, dtype, dtype}; }

  DType source = DType::kUnspecified;
  DType wire = DType::kUnspecified;
  DType destination = DType::kUnspecified;
};

class BoxCopy {
 public:
  // Describes the copy of `box` of a tensor of `shape`. An empty box gives a
  // copy of no bytes.
  // Errors: INVALID_ARGUMENT - unknown dtype, ranks disagree, the box is not
  // inside the shape, sizes overflow, types that are not cast into each other,
  // or a destination that has less precision than the wire.
  static absl::StatusOr<BoxCopy> Create(const CopyTypes& types,
                                        absl::Span<const int64_t> shape,
                                        const Box& box,
                                        const StridedPlace& source,
                                        const StridedPlace& destination);
  static absl::StatusOr<BoxCopy> Create(DType dtype,
                                        absl::Span<const int64_t> shape,
                                        const Box& box,
                                        const StridedPlace& source,
                                        const StridedPlace& destination) {
    return Create(CopyTypes::Same(dtype), shape, box, source, destination);
  }

  // Describes one side only: pack (unpack) and digest functions may be used.
  static absl::StatusOr<BoxCopy> ForSource(DType source_dtype, DType wire_dtype,
                                           absl::Span<const int64_t> shape,
                                           const Box& box,
                                           const StridedPlace& source);
  static absl::StatusOr<BoxCopy> ForDestination(
      DType wire_dtype, DType destination_dtype,
      absl::Span<const int64_t> shape, const Box& box,
      const StridedPlace& destination);

  int64_t num_bytes() const { return num_bytes_; }

  // Returns the offset in the source (destination) at which the bytes [lo, hi)
  // of the sequence lie in one piece; nullopt where they are scattered or cast.
  std::optional<int64_t> SourceRun(int64_t lo, int64_t hi) const;
  std::optional<int64_t> DestinationRun(int64_t lo, int64_t hi) const;

  // Longest contiguous runs on both sides at once, in bytes; 0 where one casts.
  int64_t run_bytes() const { return plain_.run_bytes; }

 private:
  friend struct BoxCopyAccess;

  BoxCopy() = default;
  void SetLoops(const std::vector<copy_internal::LoopDim>& dims,
                int64_t element_bytes);

  int64_t num_bytes_ = 0;
  int64_t src_offset_ = 0;
  int64_t dst_offset_ = 0;
  int64_t logical_offset_ = 0;
  // Null where the side holds the wire's type. A side that casts has no other
  // loops than these.
  std::shared_ptr<const copy_internal::CastSide> source_cast_;
  std::shared_ptr<const copy_internal::CastSide> destination_cast_;
  copy_internal::Loops plain_;          // joint in source and destination
  copy_internal::Loops hashed_;         // and in logical offsets
  copy_internal::Loops hashed_source_;  // in source and logical offsets
  copy_internal::Loops hashed_destination_;
  copy_internal::Loops source_;  // in the source alone
  copy_internal::Loops destination_;
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

// Adds the digest of bytes [lo, hi) of the sequence as the source (the
// destination) has them, cast to the wire's type.
void DigestSourceRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                       const void* source, Digest& digest);
void DigestDestinationRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                            const void* destination, Digest& digest);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COPY_BOX_COPY_H_
