#ifndef SLUICE_AGENT_NCCL_SEGMENT_TURNS_H_
#define SLUICE_AGENT_NCCL_SEGMENT_TURNS_H_

// The order of an agent's segments, for the threads that carry them out.

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "agent/nccl/segment_order.h"
#include "common/ids.h"
#include "common/mutex.h"

namespace sluice::agent {

// Thread-safe. Its methods are SegmentOrder's.
class SegmentTurns {
 public:
  void Enter(OperationId operation);

  struct Proposal {
    uint64_t count = 0;
    bool shared = false;  // with other operations
  };
  Proposal Propose(OperationId operation, bool may_move);
  void Agree(OperationId operation, uint64_t count, bool moves);

  // Waits until the segment that was agreed upon runs. `broken` is asked now
  // and then: it ends the wait with its error.
  absl::Status Await(OperationId operation,
                     absl::FunctionRef<absl::Status()> broken);

  void End(OperationId operation);
  void Leave(OperationId operation);

 private:
  Mutex mutex_;
  CondVar changed_;
  SegmentOrder order_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_SEGMENT_TURNS_H_
