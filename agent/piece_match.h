#ifndef SLUICE_AGENT_PIECE_MATCH_H_
#define SLUICE_AGENT_PIECE_MATCH_H_

// Matches the pieces of one transfer as cut by its destination with those as
// cut by its source: see BoundPiece for why they may differ.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "agent/executor_interface.h"
#include "common/box.h"
#include "common/dtype.h"

namespace sluice::agent {

// A box that lies in one piece on either side.
struct MatchedPiece {
  size_t piece = 0;  // index of the destination's piece: names, dtype, shape
  Box box;
  BoundPlace source;
  std::vector<BoundPlace> destinations;
};

// Returns the boxes to copy, in stream order: one per destination piece where
// both sides cut alike.
// Errors: INVALID_ARGUMENT - the two lists are no cuts of one stream.
absl::StatusOr<std::vector<MatchedPiece>> MatchPieces(
    absl::Span<const BoundPiece> destination, const PeerTransferSource& source);

// Returns where `part` lies, given the place of `whole`, which contains it.
BoundPlace PlaceOfPart(const BoundPlace& place, const Box& whole,
                       const Box& part);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_PIECE_MATCH_H_
