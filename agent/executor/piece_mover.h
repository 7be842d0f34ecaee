#ifndef SLUICE_AGENT_EXECUTOR_PIECE_MOVER_H_
#define SLUICE_AGENT_EXECUTOR_PIECE_MOVER_H_

// The seam to what moves bytes: copies from place to place, packs, unpacks and
// digests ranges of bound pieces, wherever they lie. An operation decides what
// moves when (operation.h); it knows nothing of memory spaces.
//
// Bytes of a piece are counted in its stream: its box's elements, row-major, in
// its element type; places that hold another type are cast.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "agent/executor_interface.h"
#include "common/digest_value.h"

namespace sluice::agent {

// Bytes [lo, hi) of a piece's stream, and where they lie.
struct PieceRange {
  const BoundPiece* piece = nullptr;
  const BoundPlace* source = nullptr;  // what is read
  absl::Span<const BoundPlace> destinations;
  int64_t lo = 0;
  int64_t hi = 0;
  int64_t packed = 0;  // of byte `lo` in what is packed
  // What the digest of the range is added to; null for none.
  Digest* digest = nullptr;
};

// Thread-safe for disjoint destinations. Calls return when the bytes are where
// they belong: they may wait for a device, never for a peer. After an error
// they may be anything, but nothing touches memory any more.
class PieceMover {
 public:
  virtual ~PieceMover() = default;

  // From the sources to `packed`, which the host reads.
  virtual absl::Status Pack(absl::Span<const PieceRange> ranges,
                            std::byte* packed) = 0;
  // From `packed` to all destinations.
  virtual absl::Status Unpack(absl::Span<const PieceRange> ranges,
                              const std::byte* packed) = 0;

  // How a movement that was begun has ended.
  using Done = absl::AnyInvocable<void(absl::Status) &&>;
  // As Pack and Unpack, but they may return before that is over: `done` is
  // called once, here or on a thread of the mover's. Pieces, packed bytes and
  // digests stay until then; the list of ranges need not.
  virtual void StartPack(absl::Span<const PieceRange> ranges, std::byte* packed,
                         Done done) {
    std::move(done)(Pack(ranges, packed));
  }
  virtual void StartUnpack(absl::Span<const PieceRange> ranges,
                           const std::byte* packed, Done done) {
    std::move(done)(Unpack(ranges, packed));
  }

  // From the sources to all destinations.
  virtual absl::Status Copy(absl::Span<const PieceRange> ranges) = 0;
  // A copy that was begun. Its destructor waits for it, too.
  class Copying {
   public:
    virtual ~Copying() = default;
    // Waits until it is over. To be called once, on the thread that began it.
    virtual absl::Status End() = 0;
  };
  // As Copy, but it may return before that is over: null where it is over.
  // Pieces and digests stay until the end; the list of ranges need not.
  virtual absl::StatusOr<std::unique_ptr<Copying>> BeginCopy(
      absl::Span<const PieceRange> ranges);
  // Of what the sources hold.
  virtual absl::Status DigestOf(absl::Span<const PieceRange> ranges) = 0;

  // Memory for staging that this mover packs into best; null where it has none
  // to give and any memory does.
  virtual std::byte* AllocateStaging(int64_t bytes) = 0;
  virtual void FreeStaging(std::byte* memory) = 0;
};

// The mover of memory that the host reaches.
class HostPieceMover final : public PieceMover {
 public:
  absl::Status Pack(absl::Span<const PieceRange> ranges,
                    std::byte* packed) override;
  absl::Status Unpack(absl::Span<const PieceRange> ranges,
                      const std::byte* packed) override;
  absl::Status Copy(absl::Span<const PieceRange> ranges) override;
  absl::Status DigestOf(absl::Span<const PieceRange> ranges) override;
  std::byte* AllocateStaging(int64_t) override { return nullptr; }
  void FreeStaging(std::byte*) override {}
};

// The process's one; it has no state.
PieceMover& TheHostMover();

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_EXECUTOR_PIECE_MOVER_H_
