#ifndef SLUICE_AGENT_NCCL_SEGMENT_ORDER_H_
#define SLUICE_AGENT_NCCL_SEGMENT_ORDER_H_

// In which order one agent carries out segments of operations, one at a time.
//
// A segment is what the members of an operation's group move by one group call.
// Who calls into NCCL waits there for the other members; so all agents must
// meet the segments that they share in one order, though each only knows its
// own. The members agree on it: with every segment each tells how far it has
// counted, and the segment's number is above all of that. An agent carries out
// segments as they are numbered, once none that is being agreed upon can still
// come before. (Totally ordered multicast, after D. Skeen.)
//
// Why nobody waits for ever: what keeps a segment waiting is numbered below it,
// or is yet to be told of by a member that carries out one numbered below it.

#include <compare>
#include <cstdint>
#include <map>

#include "common/ids.h"

namespace sluice::agent {

// Unique: an operation has one segment at a time.
struct SegmentNumber {
  uint64_t count = 0;
  OperationId operation;
  friend auto operator<=>(const SegmentNumber&, const SegmentNumber&) = default;
};

// A value; not thread-safe. Calls for an operation come in this order:
//   Enter { Propose Agree Start... End }... Leave
// and Leave may come at any time after Enter.
//
// Invariants: at most one segment runs; those that run are numbered in order.
class SegmentOrder {
 public:
  // All members of the operation are there and will propose.
  void Enter(OperationId operation);

  // Its next segment is being agreed upon. `may_move`: whether something may
  // move to or from this agent. Returns what to tell the members.
  uint64_t Propose(OperationId operation, bool may_move);

  // It is the one numbered `count`. `moves`: whether it has to run here, which
  // it has not where it was told that nothing may move.
  void Agree(OperationId operation, uint64_t count, bool moves);

  // Whether the segment runs now.
  bool Start(OperationId operation);

  // It has ended, or does not run here.
  void End(OperationId operation);

  void Leave(OperationId operation);

  // Whether other operations are in the order, too.
  bool Shared() const { return lanes_.size() > 1; }

 private:
  enum class State { kIdle, kProposed, kAgreed, kRunning };
  struct Lane {
    State state = State::kIdle;
    // Proposed: what was told. Agreed: the number.
    uint64_t count = 0;
  };

  uint64_t count_ = 0;
  std::map<OperationId, Lane> lanes_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_SEGMENT_ORDER_H_
