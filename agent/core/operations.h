#ifndef SLUICE_AGENT_CORE_OPERATIONS_H_
#define SLUICE_AGENT_CORE_OPERATIONS_H_

// The life of a bound operation: execute, vote, commit, abort, release; own
// deadlines. What is decided after the vote is the coordinator's alone.

#include "absl/status/status.h"
#include "agent/core/core_state.h"
#include "agent/core/events.h"
#include "common/command.h"

namespace sluice::agent {

void OnExecute(CoreState& state, const Command& command,
               const ExecuteCommand& execute);
void OnCommit(CoreState& state, const Command& command,
              const CommitCommand& commit);
void OnAbort(CoreState& state, const Command& command,
             const AbortCommand& abort);
void OnRelease(CoreState& state, const Command& command, OperationId id);

void OnExecutionPrepared(CoreState& state, const ExecutionPreparedEvent& event);
void OnProgress(CoreState& state, const ExecutionProgressEvent& event);
void OnExecutionDone(CoreState& state, const ExecutionDoneEvent& event);
void OnLoadDone(CoreState& state, const LoadDoneEvent& event);
void OnDigestsRead(CoreState& state, const DigestsReadEvent& event);

// A coordinator of a higher epoch rules: what has not voted ends.
void EndOldEpoch(CoreState& state, Epoch epoch);
// Stops what has not voted by its deadline; returns whether there was any.
bool ExpireOperations(CoreState& state);

// Stops what reads or fills the placement, whose lender has gone with its
// memory, and has not voted. A vote is taken back where peers still read that
// memory and no digest says whether what they find is the version.
void StopUsersOf(CoreState& state, const Placement& placement);
// Errors: ABORTED - the memory it is to read has gone while it waited.
absl::Status CheckSourceThere(const CoreState& state,
                              const Operation& operation);

// Answers the command that began the operation, once.
void AnswerOperation(CoreState& state, Operation& operation,
                     const absl::Status& outcome);
// Lets go of everything and forgets the operation.
void Drop(CoreState& state, Operation& operation);
// It waits for the copies it is to fill; for none any more.
void MarkWanted(Operation& operation);
void ClearWanted(Operation& operation);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_OPERATIONS_H_
