#ifndef SLUICE_AGENT_NCCL_LANE_STEP_H_
#define SLUICE_AGENT_NCCL_LANE_STEP_H_

// Which messages of an operation move in one segment. Before each, every member
// tells all others how far it is; from that, each finds the same messages for
// both of their sides, and the segment's number. Only what lies ready at its
// sender and has a place at its receiver moves: a segment waits for nobody's
// packing, and operations whose messages depend on each other cannot lock up.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::agent {

// Messages to and from one member, counted from the operation's first one.
struct LaneMark {
  int64_t sends = 0;
  int64_t receives = 0;
  friend bool operator==(const LaneMark&, const LaneMark&) = default;
};

// What one member tells.
struct LaneCard {
  // All its messages have moved.
  bool done = false;
  // It carries out segments of other operations, too.
  bool shared = false;
  // How far it has counted segments (segment_order.h).
  uint64_t count = 0;
  // By member: messages that are ready, those that have moved among them.
  std::vector<LaneMark> ready;

  std::string Encode() const;
  // Errors: INVALID_ARGUMENT - no card of one of `members`.
  static absl::StatusOr<LaneCard> Decode(absl::string_view bytes, int members);
};

struct LaneStep {
  // Its number: above what any member has counted.
  uint64_t count = 0;
  // By member: messages of `self` that have moved when the step is over.
  std::vector<LaneMark> until;
  // Messages between all members that have moved when it is over.
  int64_t moved = 0;
  // A member may have to carry out other segments before.
  bool shared = false;
  // All members are done: there is no step any more.
  bool over = false;
};

// `cards`: by member, each with a mark for each.
LaneStep PlanLaneStep(int self, const std::vector<LaneCard>& cards);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_LANE_STEP_H_
