#ifndef SLUICE_AGENT_NCCL_SEGMENT_ORDER_H_
#define SLUICE_AGENT_NCCL_SEGMENT_ORDER_H_

// In which order one agent carries out segments of collective work. A segment
// is numbered when it is admitted and names the one before it on each of its
// agents; so all agents meet the same collectives in the same order, however
// their commands travel, and a lost command stalls and is named instead of
// letting two collectives cross.

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <ostream>

#include "absl/status/status.h"
#include "common/ids.h"

namespace sluice::agent {

struct SegmentId {
  Epoch epoch;
  uint64_t number = 0;  // increasing in an epoch, from 1
  friend auto operator<=>(const SegmentId&, const SegmentId&) = default;
};
std::ostream& operator<<(std::ostream& os, const SegmentId& id);

// Who comes before a segment on an agent; none: it is the agent's first of the
// epoch.
using Predecessor = std::optional<uint64_t>;

// A value; not thread-safe. Commands may be repeated and come in any order.
//
// Invariants: at most one segment runs. A segment starts when its predecessor
// has ended, or was declared void with all before it ended.
class SegmentOrder {
 public:
  explicit SegmentOrder(Epoch epoch) : epoch_(epoch) {}

  Epoch epoch() const { return epoch_; }

  // Takes in a segment of this agent. Known and ended ones are ignored.
  // Errors: ABORTED - of an older epoch. INVALID_ARGUMENT - of a later one (see
  // Raise), or not numbered above its predecessor. FAILED_PRECONDITION - its
  // predecessor has another successor (named).
  absl::Status Admit(const SegmentId& id, Predecessor predecessor);

  // Declares that a segment of this agent is not carried out, whether it was
  // admitted here or never came. Ignored of one that runs or has ended: that
  // one ends by End. Errors: as Admit.
  absl::Status Void(const SegmentId& id, Predecessor predecessor);

  // The segment to start now, if any; the caller calls End when it is over.
  std::optional<SegmentId> Start();

  // The running segment is over, done or failed.
  // Errors: FAILED_PRECONDITION - it does not run.
  absl::Status End(const SegmentId& id);

  // Goes over to a later epoch: forgets all of the old one. Returns the segment
  // that runs, which the caller ends before it starts any other.
  // Errors are none: an older or equal epoch changes nothing.
  std::optional<SegmentId> Raise(Epoch epoch);

  struct Stall {
    uint64_t missing = 0;  // never admitted here, nor declared void
    uint64_t waiting = 0;  // for it
    friend bool operator==(const Stall&, const Stall&) = default;
  };
  // What the oldest waiting segment lacks; none while one runs or can start.
  std::optional<Stall> Stalled() const;

 private:
  struct Next {
    uint64_t number = 0;
    bool is_void = false;
  };
  absl::Status Insert(const SegmentId& id, Predecessor predecessor,
                      bool is_void);

  Epoch epoch_;
  // The last one that has ended, with all before it.
  Predecessor ended_;
  std::optional<uint64_t> running_;
  // Those that wait, by their predecessors.
  std::map<Predecessor, Next> waiting_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_SEGMENT_ORDER_H_
