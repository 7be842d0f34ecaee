#include "agent/nccl/segment_turns.h"

#include "absl/time/time.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Between two looks at what may have broken.
constexpr absl::Duration kLook = absl::Milliseconds(20);

}  // namespace

void SegmentTurns::Enter(OperationId operation) {
  MutexLock lock(mutex_);
  order_.Enter(operation);
}

SegmentTurns::Proposal SegmentTurns::Propose(OperationId operation,
                                             bool may_move) {
  MutexLock lock(mutex_);
  return {order_.Propose(operation, may_move), order_.Shared()};
}

void SegmentTurns::Agree(OperationId operation, uint64_t count, bool moves) {
  MutexLock lock(mutex_);
  order_.Agree(operation, count, moves);
  changed_.SignalAll();
}

absl::Status SegmentTurns::Await(OperationId operation,
                                 absl::FunctionRef<absl::Status()> broken) {
  for (;;) {
    SLUICE_RETURN_IF_ERROR(broken());
    MutexLock lock(mutex_);
    if (order_.Start(operation)) return absl::OkStatus();
    changed_.WaitFor(mutex_, kLook);
  }
}

void SegmentTurns::End(OperationId operation) {
  MutexLock lock(mutex_);
  order_.End(operation);
  changed_.SignalAll();
}

void SegmentTurns::Leave(OperationId operation) {
  MutexLock lock(mutex_);
  order_.Leave(operation);
  changed_.SignalAll();
}

}  // namespace sluice::agent
