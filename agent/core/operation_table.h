#ifndef SLUICE_AGENT_CORE_OPERATION_TABLE_H_
#define SLUICE_AGENT_CORE_OPERATION_TABLE_H_

// The operations this agent takes part in, from Prepare (or Load, ReadDigests)
// until the coordinator commits or releases them.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/core/effects.h"
#include "agent/core/placement_table.h"
#include "agent/core/sample_index.h"
#include "common/command.h"
#include "common/ids.h"

namespace sluice::agent {

enum class OperationType { kParameters, kSamples, kLoad, kDigests };

// waiting -> binding (1) -> prepared (2) -> running (3) -> voted (4)
//   -> committed and forgotten (5)
// binding, prepared, running -> stopping (7) -> failed or stopped (8)
// running -> failed (9); voted, failed -> stopped (10) -> released (6)
//
// 1 memory is free: the host binds (a load or reading of digests runs at once);
// 2 the host has; 3 Execute; 4 complete and verified: only the coordinator
// decides now; 5 Commit: all have voted, so nobody reads from another any more;
// 6 Release; 7 Abort, or the own deadline, or a new epoch; 8 nothing touches
// memory any more, at the agent's own will (failed) or the coordinator's
// (stopped); 9 the executor failed; 10 Abort.
enum class OperationState {
  kWaiting,
  kBinding,
  kPrepared,
  kRunning,
  kStopping,
  kVoted,
  kFailed,
  kStopped,
};

std::ostream& operator<<(std::ostream& os, OperationState state);

// A sample tensor of the operation's part, by entry.
struct OperationSample {
  SampleTensorPtr held;     // read here; null if received only
  SampleTensorPtr landing;  // received here; null if only read
};

struct Operation {
  OperationId id;
  OperationType type = OperationType::kParameters;
  OperationState state = OperationState::kWaiting;

  // Command whose answer is due (Prepare, Load, ReadDigests).
  std::optional<CommandId> answer_to;
  Epoch epoch;  // of that command

  // What was asked: `prepare` for kParameters and kSamples.
  PrepareCommand prepare;
  std::shared_ptr<const PlanPart> part;
  std::string directory;  // kLoad

  // What is bound: the copy read, the copies written by placement index (null
  // placement: none here), memory held until Commit or
  // Release.
  CopyRef source;
  std::vector<CopyRef> destinations;
  bool targets_taken = false;
  bool landings_made = false;
  std::vector<OperationSample> samples;
  std::vector<BufferId> held_buffers;

  absl::Time wait_until;
  absl::Duration deadline;
  absl::Time deadline_at;

  // Why it stops or failed; whether the coordinator ordered that.
  absl::Status stop_reason;
  bool abort_ordered = false;
  // Release came while it was stopping.
  bool released = false;
  // The vote, told again after each inventory until it is decided.
  VoteEvent vote;

  // Whether the host has an execution of it to forget.
  bool has_execution = false;

  bool undecided() const { return state == OperationState::kVoted; }
  // Whether something may still happen to memory, or is not decided.
  bool active() const {
    return state != OperationState::kFailed &&
           state != OperationState::kStopped;
  }
};

// Not thread-safe.
class OperationTable {
 public:
  // Null if unknown.
  Operation* Find(OperationId id);
  // `id` is new.
  Operation& Insert(Operation operation);
  // Forgets an operation; the caller has let go of what it held.
  void Erase(OperationId id);
  // In order of ids.
  std::map<OperationId, Operation>& all() { return operations_; }
  const std::map<OperationId, Operation>& all() const { return operations_; }

  // Remembers (for a while) that an operation was committed, so that a Commit
  // that is sent again is answered.
  void NoteCommitted(OperationId id);
  bool WasCommitted(OperationId id) const { return committed_.count(id) > 0; }

 private:
  std::map<OperationId, Operation> operations_;
  std::set<OperationId> committed_;  // bounded
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_OPERATION_TABLE_H_
