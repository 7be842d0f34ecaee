#include "agent/executor/transfer_stream.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/copy/box_copy.h"
#include "common/check.h"
#include "common/dtype.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

StridedPlace Strided(const BoundPlace& place) {
  return {place.offset_bytes, place.strides_bytes};
}

int64_t PieceBytes(const BoundPiece& piece) {
  return piece.box.empty() ? 0
                           : piece.box.num_elements() * ByteSize(piece.dtype);
}

absl::Status CheckBound(const BoundPiece& piece, const BoundPlace& place) {
  if (place.memory == nullptr) {
    return absl::InvalidArgumentError("a place without memory");
  }
  return CheckPlace(Strided(place), piece.box, HeldType(piece, place),
                    place.memory->size());
}

absl::StatusOr<BoxCopy> TryRead(const BoundPiece& piece,
                                const BoundPlace& from) {
  return BoxCopy::ForSource(HeldType(piece, from), piece.dtype, piece.shape,
                            piece.box, Strided(from));
}

absl::StatusOr<BoxCopy> TryWrite(const BoundPiece& piece,
                                 const BoundPlace& to) {
  return BoxCopy::ForDestination(piece.dtype, HeldType(piece, to), piece.shape,
                                 piece.box, Strided(to));
}

// Checked when the stream was made: these cannot fail.
BoxCopy Checked(absl::StatusOr<BoxCopy> copy) {
  SLUICE_CHECK(copy.ok()) << copy.status();
  return *std::move(copy);
}

BoxCopy Reading(const BoundPiece& piece) {
  return Checked(TryRead(piece, *piece.source));
}

BoxCopy Writing(const BoundPiece& piece, const BoundPlace& to) {
  return Checked(TryWrite(piece, to));
}

// `at`: where the piece starts in the stream.
absl::Status CheckPiece(const BoundPiece& piece, const BoundTransfer& transfer,
                        Rank self, int64_t at) {
  if (piece.shape.size() != static_cast<size_t>(piece.box.rank()) ||
      ByteSize(piece.dtype) == 0 || piece.box.empty() ||
      !piece.box.FitsIn(piece.shape)) {
    return absl::InvalidArgumentError("not a box of its tensor");
  }
  if (transfer.source == self && !piece.source.has_value()) {
    return absl::InvalidArgumentError("no source place");
  }
  if (transfer.destination == self && piece.destinations.empty()) {
    return absl::InvalidArgumentError("no destination place");
  }
  if (piece.source.has_value()) {
    SLUICE_RETURN_IF_ERROR(CheckBound(piece, *piece.source));
    if (HeldType(piece, *piece.source) != piece.dtype) {
      SLUICE_RETURN_IF_ERROR(TryRead(piece, *piece.source).status());
    }
  }
  for (const BoundPlace& to : piece.destinations) {
    SLUICE_RETURN_IF_ERROR(CheckBound(piece, to));
    if (HeldType(piece, to) == piece.dtype) continue;
    SLUICE_RETURN_IF_ERROR(TryWrite(piece, to).status());
    // Ranges of the stream are cut at multiples of the largest element: two of
    // them must not share an element that is cast where it lands.
    if (at % ByteSize(piece.dtype) != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "its ", DTypeName(piece.dtype), " elements, which are cast to ",
          DTypeName(HeldType(piece, to)), ", start at byte ", at));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TransferStream> TransferStream::Create(BoundTransfer transfer,
                                                      Rank self,
                                                      PieceMover& mover) {
  TransferStream stream;
  stream.mover_ = &mover;
  stream.transfer_ = std::move(transfer);
  const BoundTransfer& bound = stream.transfer_;
  int64_t at = 0;
  stream.starts_.reserve(bound.pieces.size());
  for (size_t i = 0; i < bound.pieces.size(); ++i) {
    const BoundPiece& piece = bound.pieces[i];
    SLUICE_RETURN_IF_ERROR(
        Annotate(CheckPiece(piece, bound, self, at),
                 absl::StrCat("transfer ", bound.id, ", tensor \"",
                              piece.tensor, "\" box ", piece.box.ToString())));
    stream.starts_.push_back(at);
    at += PieceBytes(piece);
    stream.AddSegment(i);
    stream.segments_.back().hi = at;
    stream.has_copies_ |= piece.destinations.size() > 1;
  }
  if (at != bound.bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("transfer ", bound.id, ": expected ", bound.bytes,
                     " bytes, its pieces have ", at));
  }
  return stream;
}

void TransferStream::AddSegment(size_t index) {
  const BoundPiece& piece = transfer_.pieces[index];
  if (!segments_.empty() &&
      transfer_.pieces[index - 1].tensor == piece.tensor &&
      transfer_.pieces[index - 1].box.rank() == piece.box.rank()) {
    // Pieces of one planned box: their hull is the box.
    Box& hull = segments_.back().box;
    for (int d = 0; d < hull.rank(); ++d) {
      hull.dim(d).lo = std::min(hull.dim(d).lo, piece.box.dim(d).lo);
      hull.dim(d).hi = std::max(hull.dim(d).hi, piece.box.dim(d).hi);
    }
    return;
  }
  segments_.push_back({.lo = starts_.back(),
                       .hi = starts_.back(),
                       .first_piece = index,
                       .box = piece.box});
}

size_t TransferStream::PieceAt(int64_t offset) const {
  const auto it = std::upper_bound(starts_.begin(), starts_.end(), offset);
  return static_cast<size_t>(it - starts_.begin()) - 1;
}

size_t TransferStream::SegmentAt(int64_t offset) const {
  const auto it = std::upper_bound(
      segments_.begin(), segments_.end(), offset,
      [](int64_t at, const StreamSegment& s) { return at < s.lo; });
  return static_cast<size_t>(it - segments_.begin()) - 1;
}

std::vector<PieceRange> TransferStream::Ranges(
    int64_t lo, int64_t hi, Reads reads,
    std::vector<SegmentDigest>* digests) const {
  std::vector<PieceRange> ranges;
  if (lo >= hi) return ranges;
  const int64_t begin = lo;
  const size_t first = SegmentAt(lo);
  if (digests != nullptr) {
    digests->clear();
    for (size_t s = first; s < segments_.size() && segments_[s].lo < hi; ++s) {
      digests->push_back({s, {}});
    }
  }
  size_t segment = first;
  for (size_t i = PieceAt(lo); lo < hi; ++i) {
    while (segments_[segment].hi <= lo) ++segment;
    const BoundPiece& piece = transfer_.pieces[i];
    const int64_t end = std::min(hi, starts_[i] + PieceBytes(piece));
    PieceRange& range = ranges.emplace_back();
    range.piece = &piece;
    range.destinations = piece.destinations;
    if (reads == Reads::kFirstDestination) {
      range.source = &piece.destinations.front();
      range.destinations.remove_prefix(1);
    } else if (piece.source.has_value()) {
      range.source = &*piece.source;
    }
    range.lo = lo - starts_[i];
    range.hi = end - starts_[i];
    range.packed = lo - begin;
    if (digests != nullptr) range.digest = &(*digests)[segment - first].digest;
    lo = end;
  }
  return ranges;
}

const std::byte* TransferStream::SourceRun(int64_t lo, int64_t hi) const {
  const size_t i = PieceAt(lo);
  const BoundPiece& piece = transfer_.pieces[i];
  if (hi > starts_[i] + PieceBytes(piece) ||
      piece.source->memory->space() == MemorySpace::kDevice) {
    return nullptr;
  }
  const auto run = Reading(piece).SourceRun(lo - starts_[i], hi - starts_[i]);
  return run ? piece.source->memory->data() + *run : nullptr;
}

std::byte* TransferStream::DestinationRun(int64_t lo, int64_t hi) const {
  const size_t i = PieceAt(lo);
  const BoundPiece& piece = transfer_.pieces[i];
  const BoundPlace& to = piece.destinations.front();
  if (hi > starts_[i] + PieceBytes(piece) ||
      to.memory->space() == MemorySpace::kDevice) {
    return nullptr;
  }
  const auto run =
      Writing(piece, to).DestinationRun(lo - starts_[i], hi - starts_[i]);
  return run ? to.memory->data() + *run : nullptr;
}

void TransferStream::StartPack(int64_t lo, int64_t hi, std::byte* out,
                               bool digests, Moved moved) const {
  auto parts = std::make_unique<std::vector<SegmentDigest>>();
  const std::vector<PieceRange> ranges =
      Ranges(lo, hi, Reads::kSource, digests ? parts.get() : nullptr);
  mover_->StartPack(ranges, out,
                    [parts = std::move(parts),
                     moved = std::move(moved)](absl::Status status) mutable {
                      std::move(moved)(std::move(status), std::move(*parts));
                    });
}

void TransferStream::StartUnpack(int64_t lo, int64_t hi, const std::byte* in,
                                 bool digests, Moved moved) const {
  auto parts = std::make_unique<std::vector<SegmentDigest>>();
  const std::vector<PieceRange> ranges =
      Ranges(lo, hi, Reads::kSource, digests ? parts.get() : nullptr);
  mover_->StartUnpack(ranges, in,
                      [parts = std::move(parts),
                       moved = std::move(moved)](absl::Status status) mutable {
                        std::move(moved)(std::move(status), std::move(*parts));
                      });
}

absl::StatusOr<std::unique_ptr<PieceMover::Copying>> TransferStream::BeginCopy(
    int64_t lo, int64_t hi, std::vector<SegmentDigest>* digests) const {
  return mover_->BeginCopy(Ranges(lo, hi, Reads::kSource, digests));
}

absl::Status TransferStream::CopyToOthers(int64_t lo, int64_t hi) const {
  return mover_->Copy(Ranges(lo, hi, Reads::kFirstDestination, nullptr));
}

absl::Status TransferStream::DigestSource(
    int64_t lo, int64_t hi, std::vector<SegmentDigest>& digests) const {
  return mover_->DigestOf(Ranges(lo, hi, Reads::kSource, &digests));
}

absl::Status TransferStream::DigestDestination(
    int64_t lo, int64_t hi, std::vector<SegmentDigest>& digests) const {
  return mover_->DigestOf(Ranges(lo, hi, Reads::kFirstDestination, &digests));
}

std::vector<StreamMessage> CutMessages(
    const std::vector<StreamSegment>& segments) {
  std::vector<StreamMessage> messages;
  bool open = false;  // whether the last message may take another small one
  for (const StreamSegment& segment : segments) {
    if (segment.bytes() < kLargeSegmentBytes) {
      if (open && segment.hi - messages.back().lo <= kMessageBytes) {
        messages.back().hi = segment.hi;
      } else {
        messages.push_back({segment.lo, segment.hi});
        open = true;
      }
      continue;
    }
    for (int64_t at = segment.lo; at < segment.hi; at += kMessageBytes) {
      messages.push_back({at, std::min(segment.hi, at + kMessageBytes)});
    }
    open = false;
  }
  return messages;
}

}  // namespace sluice::agent
