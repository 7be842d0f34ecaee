#ifndef SLUICE_AGENT_NCCL_SEGMENT_TURNS_H_
#define SLUICE_AGENT_NCCL_SEGMENT_TURNS_H_

// SegmentOrder among threads: each waits for the turn of its segment.

#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/nccl/segment_order.h"
#include "common/clock.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/mutex.h"

namespace sluice::agent {

// A segment as a command names it.
struct SegmentTurn {
  Epoch epoch;
  SegmentNumber segment;

  SegmentId id() const { return {epoch, segment.number}; }
  Predecessor predecessor() const {
    if (segment.predecessor == 0) return std::nullopt;
    return segment.predecessor;
  }
};

// Thread-safe. One turn at a time, over epochs, too.
class SegmentTurns {
 public:
  explicit SegmentTurns(const Clock& clock) : clock_(clock), order_(Epoch()) {}

  // Errors: as SegmentOrder::Admit.
  absl::Status Admit(const SegmentTurn& turn);

  // Waits for the turn of an admitted segment. `broken` is asked now and then:
  // it ends the wait with its error.
  // Errors: those; DEADLINE_EXCEEDED - for longer than `patience`, a segment
  // that comes before it has not been heard of (named).
  absl::Status Await(const SegmentTurn& turn, absl::Duration patience,
                     absl::FunctionRef<absl::Status()> broken);

  // Its turn is over, or not to come. Unknown ones count as void.
  void Leave(const SegmentTurn& turn);

  // It is not carried out, unless it has been admitted: then who waits for it
  // leaves.
  void Void(const SegmentTurn& turn);

  void Raise(Epoch epoch);

 private:
  const Clock& clock_;
  Mutex mutex_;
  CondVar changed_;
  SegmentOrder order_ ABSL_GUARDED_BY(mutex_);
  // Whose turn it is, of this epoch or of one before.
  std::optional<SegmentId> running_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_SEGMENT_TURNS_H_
