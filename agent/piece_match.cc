#include "agent/piece_match.h"

#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/copy/strided_place.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

absl::Status CheckSizes(const PeerTransferSource& source) {
  if (source.pieces.size() == source.boxes.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      source.boxes.size(), " boxes for ", source.pieces.size(), " pieces"));
}

absl::Status NoMorePieces(const BoundPiece& piece) {
  return absl::InvalidArgumentError(
      absl::StrCat("tensor \"", piece.tensor, "\" box ", piece.box.ToString(),
                   ": the source has no more pieces"));
}

// The peer's word is not taken for where its pieces lie.
absl::Status CheckInside(const BoundPiece& piece, const Box& box,
                         const BoundPlace& place) {
  if (place.memory == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", piece.tensor, "\": no source memory"));
  }
  return CheckPlace({place.offset_bytes, place.strides_bytes}, box,
                    HeldType(piece, place), place.memory->size());
}

absl::Status Unlike(const BoundPiece& piece, const Box& theirs) {
  return absl::InvalidArgumentError(
      absl::StrCat("tensor \"", piece.tensor, "\" box ", piece.box.ToString(),
                   ": the source has box ", theirs.ToString(),
                   " at this place of the stream"));
}

MatchedPiece Match(size_t index, const BoundPiece& piece, const Box& common,
                   BoundPlace source) {
  MatchedPiece match{index, common, std::move(source), {}};
  for (const BoundPlace& to : piece.destinations) {
    match.destinations.push_back(PlaceOfPart(to, piece.box, common));
  }
  return match;
}

}  // namespace

BoundPlace PlaceOfPart(const BoundPlace& place, const Box& whole,
                       const Box& part) {
  BoundPlace out = place;
  for (int d = 0; d < whole.rank(); ++d) {
    out.offset_bytes += (part.dim(d).lo - whole.dim(d).lo) *
                        place.strides_bytes[static_cast<size_t>(d)];
  }
  return out;
}

absl::StatusOr<std::vector<MatchedPiece>> MatchPieces(
    absl::Span<const BoundPiece> destination,
    const PeerTransferSource& source) {
  SLUICE_RETURN_IF_ERROR(CheckSizes(source));
  std::vector<MatchedPiece> out;
  out.reserve(destination.size());
  size_t theirs = 0;
  // Elements of the current piece of either side that are matched already. Both
  // are ranges of one row-major order, so the next match starts behind them.
  int64_t our_done = 0;
  int64_t their_done = 0;
  for (size_t ours = 0; ours < destination.size();) {
    const BoundPiece& piece = destination[ours];
    if (theirs == source.boxes.size()) return NoMorePieces(piece);
    const Box& box = source.boxes[theirs];
    const BoundPlace& place = source.pieces[theirs];
    if (box.rank() != piece.box.rank() ||
        place.strides_bytes.size() != static_cast<size_t>(box.rank())) {
      return Unlike(piece, box);
    }
    std::optional<Box> common = piece.box.Intersect(box);
    if (!common.has_value()) return Unlike(piece, box);
    const int64_t elements = common->num_elements();
    SLUICE_RETURN_IF_ERROR(CheckInside(piece, box, place));
    out.push_back(
        Match(ours, piece, *common, PlaceOfPart(place, box, *common)));
    our_done += elements;
    their_done += elements;
    const int64_t our_left = piece.box.num_elements() - our_done;
    const int64_t their_left = box.num_elements() - their_done;
    // One of the two must be used up, or both are cut in no common order.
    if (our_left != 0 && their_left != 0) return Unlike(piece, box);
    if (our_left == 0) {
      ++ours;
      our_done = 0;
    }
    if (their_left == 0) {
      ++theirs;
      their_done = 0;
    }
  }
  if (theirs != source.boxes.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the source has ", source.boxes.size() - theirs,
                     " pieces more than the destination"));
  }
  return out;
}

}  // namespace sluice::agent
