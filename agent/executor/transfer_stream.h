#ifndef SLUICE_AGENT_EXECUTOR_TRANSFER_STREAM_H_
#define SLUICE_AGENT_EXECUTOR_TRANSFER_STREAM_H_

// One bound transfer as a stream of bytes (see BoundPiece): where each range of
// it lies in this agent's memory, and how it is cut into messages.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/executor/piece_mover.h"
#include "agent/executor_interface.h"
#include "common/box.h"
#include "common/digest_value.h"

namespace sluice::agent {

// The share of one tensor: the pieces of its planned box. Segments follow from
// the plan, so both sides of a transfer have the same ones.
struct StreamSegment {
  int64_t lo = 0;  // bytes of the stream
  int64_t hi = 0;
  size_t first_piece = 0;
  Box box;

  int64_t bytes() const { return hi - lo; }
};

// A part of a segment's digest, unscaled.
struct SegmentDigest {
  size_t segment = 0;
  Digest digest;
};

// Immutable; thread-safe for disjoint ranges. Ranges are bytes of the stream.
class TransferStream {
 public:
  TransferStream() = default;

  // Errors: INVALID_ARGUMENT - a place outside its memory, bytes that do not
  // add up, a missing source or destination place (`self` says which is
  // needed), element types between which there is no cast.
  // `mover` outlives the stream.
  static absl::StatusOr<TransferStream> Create(
      BoundTransfer transfer, Rank self, PieceMover& mover = TheHostMover());

  const BoundTransfer& transfer() const { return transfer_; }
  int64_t bytes() const { return transfer_.bytes; }
  const std::vector<StreamSegment>& segments() const { return segments_; }
  const BoundPiece& piece_of(const StreamSegment& segment) const {
    return transfer_.pieces[segment.first_piece];
  }
  // Index of the segment with byte `offset`.
  size_t SegmentAt(int64_t offset) const;

  // Returns where the range lies in one run that the host reaches; null where
  // it is scattered, cast, or on a device.
  const std::byte* SourceRun(int64_t lo, int64_t hi) const;
  std::byte* DestinationRun(int64_t lo, int64_t hi) const;

  // Whether some piece goes to more than one place.
  bool has_copies() const { return has_copies_; }

  // How a movement ended, and the digests of what it moved.
  using Moved =
      absl::AnyInvocable<void(absl::Status, std::vector<SegmentDigest>) &&>;
  // Begin to pack and to unpack, with digests or without. They may return
  // before that is over: `moved` is called once, here or on another thread; the
  // stream and the packed bytes stay until then.
  void StartPack(int64_t lo, int64_t hi, std::byte* out, bool digests,
                 Moved moved) const;
  void StartUnpack(int64_t lo, int64_t hi, const std::byte* in, bool digests,
                   Moved moved) const;

  // The other movements; each sets `digests` to those of what it moved, unless
  // that is null. Errors: the mover's.
  // From the source to all destinations, both mapped; as PieceMover::BeginCopy.
  absl::StatusOr<std::unique_ptr<PieceMover::Copying>> BeginCopy(
      int64_t lo, int64_t hi, std::vector<SegmentDigest>* digests) const;
  // From the first destination to the others.
  absl::Status CopyToOthers(int64_t lo, int64_t hi) const;
  absl::Status DigestSource(int64_t lo, int64_t hi,
                            std::vector<SegmentDigest>& digests) const;
  absl::Status DigestDestination(int64_t lo, int64_t hi,
                                 std::vector<SegmentDigest>& digests) const;

 private:
  // Which side of a piece a movement reads.
  enum class Reads { kSource, kFirstDestination };
  // The pieces' shares of a range. Digests go to `digests`, one for each
  // segment, whose addresses the result has; null for none.
  std::vector<PieceRange> Ranges(int64_t lo, int64_t hi, Reads reads,
                                 std::vector<SegmentDigest>* digests) const;
  void AddSegment(size_t piece);
  size_t PieceAt(int64_t offset) const;

  PieceMover* mover_ = nullptr;
  BoundTransfer transfer_;
  std::vector<int64_t> starts_;  // of pieces, in the stream
  std::vector<StreamSegment> segments_;
  bool has_copies_ = false;
};

// A message of a transfer between nodes: bytes [lo, hi) of its stream.
struct StreamMessage {
  int64_t lo = 0;
  int64_t hi = 0;
  int64_t bytes() const { return hi - lo; }
};

inline constexpr int64_t kLargeSegmentBytes = 256 << 10;
inline constexpr int64_t kMessageBytes = 1 << 20;

// Cuts a stream into messages of at most 1 MiB, alike on both sides: a large
// segment on its own, neighbouring small ones together. So much stays in the
// cache between what is done with it (packed, digested, sent; received,
// unpacked, digested), and costs little more for being a message of its own.
std::vector<StreamMessage> CutMessages(
    const std::vector<StreamSegment>& segments);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_EXECUTOR_TRANSFER_STREAM_H_
