#ifndef SLUICE_COORDINATOR_PLANNER_TRANSFER_ASSEMBLY_H_
#define SLUICE_COORDINATOR_PLANNER_TRANSFER_ASSEMBLY_H_

// From routed pieces to transfers: pieces that go the same way are joined into
// as few bundles as possible, then ordered and numbered.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/box.h"
#include "common/plan.h"
#include "coordinator/planner/geometry_pairs.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

// A piece of parameters: a box of some tensors of a pair.
struct Piece {
  int32_t pair = 0;
  int32_t first = 0;  // positions [first, last) in the pair's tensors
  int32_t last = 0;
  Box box;
};

// One delivery of a piece.
struct Draft {
  int32_t piece = 0;
  int32_t round = 0;
  Rank source = kNoRank;
  Rank destination = kNoRank;
  // Position of the draft it relays, of an earlier round; -1 = it reads what
  // was there.
  int32_t parent = -1;
};

// Returns the transfers of a parameter plan. What a relay reads lies inside
// what its parent's transfer delivers.
std::vector<Transfer> AssembleTransfers(const Topology& topology,
                                        const std::vector<GeometryPair>& pairs,
                                        const std::vector<Piece>& pieces,
                                        absl::Span<const Draft> drafts);

// Orders transfers by round and, inside one, so that relayed ones come first
// and at each step every destination asks another source; then sets ids and
// translates reads_after, which hold positions in the input.
void OrderAndNumber(int32_t num_ranks, std::vector<Transfer>& transfers);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_PLANNER_TRANSFER_ASSEMBLY_H_
