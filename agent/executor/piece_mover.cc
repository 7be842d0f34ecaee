#include "agent/executor/piece_mover.h"

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "agent/copy/box_copy.h"
#include "agent/copy/strided_place.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

StridedPlace Strided(const BoundPlace& place) {
  return {place.offset_bytes, place.strides_bytes};
}

absl::StatusOr<BoxCopy> Reading(const PieceRange& range) {
  const BoundPiece& piece = *range.piece;
  return BoxCopy::ForSource(HeldType(piece, *range.source), piece.dtype,
                            piece.shape, piece.box, Strided(*range.source));
}

// The digest is made of the first destination's copy.
Digest* DigestFor(const PieceRange& range, size_t destination) {
  return destination == 0 ? range.digest : nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PieceMover::Copying>> PieceMover::BeginCopy(
    absl::Span<const PieceRange> ranges) {
  SLUICE_RETURN_IF_ERROR(Copy(ranges));
  return nullptr;
}

absl::Status HostPieceMover::Pack(absl::Span<const PieceRange> ranges,
                                  std::byte* packed) {
  for (const PieceRange& range : ranges) {
    SLUICE_ASSIGN_OR_RETURN(const BoxCopy copy, Reading(range));
    PackBoxRange(copy, range.lo, range.hi, range.source->memory->data(),
                 packed + range.packed, range.digest);
  }
  return absl::OkStatus();
}

absl::Status HostPieceMover::Unpack(absl::Span<const PieceRange> ranges,
                                    const std::byte* packed) {
  for (const PieceRange& range : ranges) {
    const BoundPiece& piece = *range.piece;
    for (size_t i = 0; i < range.destinations.size(); ++i) {
      const BoundPlace& to = range.destinations[i];
      SLUICE_ASSIGN_OR_RETURN(
          const BoxCopy copy,
          BoxCopy::ForDestination(piece.dtype, HeldType(piece, to), piece.shape,
                                  piece.box, Strided(to)));
      UnpackBoxRange(copy, range.lo, range.hi, packed + range.packed,
                     to.memory->data(), DigestFor(range, i));
    }
  }
  return absl::OkStatus();
}

absl::Status HostPieceMover::Copy(absl::Span<const PieceRange> ranges) {
  for (const PieceRange& range : ranges) {
    const BoundPiece& piece = *range.piece;
    const BoundPlace& from = *range.source;
    for (size_t i = 0; i < range.destinations.size(); ++i) {
      const BoundPlace& to = range.destinations[i];
      SLUICE_ASSIGN_OR_RETURN(
          const BoxCopy copy,
          BoxCopy::Create(
              {HeldType(piece, from), piece.dtype, HeldType(piece, to)},
              piece.shape, piece.box, Strided(from), Strided(to)));
      CopyBoxRange(copy, range.lo, range.hi, from.memory->data(),
                   to.memory->data(), Stores::kStreaming, DigestFor(range, i));
    }
  }
  return absl::OkStatus();
}

absl::Status HostPieceMover::DigestOf(absl::Span<const PieceRange> ranges) {
  for (const PieceRange& range : ranges) {
    SLUICE_ASSIGN_OR_RETURN(const BoxCopy copy, Reading(range));
    DigestSourceRange(copy, range.lo, range.hi, range.source->memory->data(),
                      *range.digest);
  }
  return absl::OkStatus();
}

PieceMover& TheHostMover() {
  static HostPieceMover mover;
  return mover;
}

}  // namespace sluice::agent
