#include "agent/core/operations.h"

#include <algorithm>
#include <iterator>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/core/overwrites.h"
#include "agent/core/placements.h"
#include "agent/core/stream.h"

namespace sluice::agent {
namespace {

constexpr int64_t kDigestsPerEvent = 1000;

absl::Status NotKnown(const CoreState& state, OperationId id) {
  return absl::NotFoundError(absl::StrCat(
      "operation ", id.value(), " is not known on agent ", state.options.name));
}

absl::Status WrongState(const CoreState& state, const Operation& operation,
                        absl::string_view wanted) {
  std::ostringstream is;
  is << operation.state;
  return absl::FailedPreconditionError(
      absl::StrCat("operation ", operation.id.value(), " on agent ",
                   state.options.name, " is ", is.str(), ", cannot be ", wanted,
                   operation.stop_reason.ok()
                       ? ""
                       : absl::StrCat(": ", operation.stop_reason.message())));
}

// What was filled is void; the published copies were not touched.
void DiscardTargets(CoreState& state, Operation& operation) {
  if (!std::exchange(operation.targets_taken, false)) return;
  for (const CopyRef& target : operation.destinations) {
    if (target.placement == nullptr) continue;
    const Version told = target.placement->copies.current_version();
    target.placement->copies.Discard(target.index);
    TellCurrentVersion(state, *target.placement, told);
  }
}

void Vote(CoreState& state, Operation& operation, absl::Status outcome,
          const PartStats& stats, Rank blamed) {
  operation.state =
      outcome.ok() ? OperationState::kVoted : OperationState::kFailed;
  operation.vote = {operation.id, std::move(outcome), stats, blamed};
  state.out.Tell(operation.vote);
}

void BecomeStopped(CoreState& state, Operation& operation) {
  state.out.Tell(StoppedEvent{operation.id});
  operation.state = OperationState::kStopped;
  // Peers may still read what this agent was to send, until Release; an
  // operation that was never bound has no peers.
  if (!operation.has_execution || operation.released) Drop(state, operation);
}

// Nothing of the operation touches memory any more.
void FinishRun(CoreState& state, Operation& operation, absl::Status status,
               const PartStats& stats, Rank blamed) {
  if (operation.state == OperationState::kStopping) {
    DiscardTargets(state, operation);
    if (operation.abort_ordered || operation.released) {
      BecomeStopped(state, operation);
    } else {
      Vote(state, operation, operation.stop_reason, stats, kNoRank);
    }
    return;
  }
  if (status.ok() && operation.state != OperationState::kRunning) {
    status = absl::InternalError(absl::StrCat(
        "operation ", operation.id.value(), " ended before it began"));
  }
  if (!status.ok()) {
    operation.stop_reason = status;
    DiscardTargets(state, operation);
  } else {
    for (const CopyRef& target : operation.destinations) {
      if (target.placement == nullptr) continue;
      target.placement->copies.Stage(target.index);
    }
  }
  Vote(state, operation, std::move(status), stats, blamed);
}

// Ends what has not voted.
void Stop(CoreState& state, Operation& operation, const absl::Status& reason) {
  switch (operation.state) {
    case OperationState::kPrepared:
    case OperationState::kRunning:
      operation.stop_reason = reason;
      operation.state = OperationState::kStopping;
      if (operation.type == OperationType::kLoad) {
        state.out.Add(AbortLoad{operation.id, reason});
      } else {
        // Digests that are being read end soon by themselves.
        state.out.Add(AbortExecution{operation.id, reason});
      }
      return;
    case OperationState::kBinding:
      // The host answers, at once if it waits for memory, and is then asked
      // again to abort what it has bound.
      if (operation.stop_reason.ok()) {
        state.out.Add(AbortExecution{operation.id, reason});
      }
      operation.stop_reason = reason;
      return;
    case OperationState::kWaiting:
    case OperationState::kStopping:
    case OperationState::kVoted:
    case OperationState::kFailed:
    case OperationState::kStopped:
      return;
  }
}

void Commit(CoreState& state, Operation& operation, Version version) {
  if (version == Version()) version = operation.prepare.version;
  for (const CopyRef& target : operation.destinations) {
    if (target.placement == nullptr) continue;
    const Version told = target.placement->copies.current_version();
    target.placement->copies.Publish(target.index, version);
    TellCurrentVersion(state, *target.placement, told);
  }
  for (const OperationSample& sample : operation.samples) {
    if (sample.landing != nullptr) state.samples.Insert(sample.landing);
  }
  operation.targets_taken = false;
  state.operations.NoteCommitted(operation.id);
  Drop(state, operation);
}

void Abort(CoreState& state, Operation& operation, const absl::Status& reason) {
  operation.abort_ordered = true;
  switch (operation.state) {
    case OperationState::kWaiting:
      AnswerOperation(
          state, operation,
          absl::AbortedError(absl::StrCat("operation ", operation.id.value(),
                                          " was aborted: ", reason.message())));
      BecomeStopped(state, operation);
      return;
    case OperationState::kBinding:
    case OperationState::kPrepared:
    case OperationState::kRunning:
      Stop(state, operation, reason);
      return;
    case OperationState::kStopping:
      return;
    case OperationState::kVoted:
      DiscardTargets(state, operation);
      BecomeStopped(state, operation);
      return;
    case OperationState::kFailed:
    case OperationState::kStopped:
      BecomeStopped(state, operation);
      return;
  }
}

}  // namespace

void OnExecute(CoreState& state, const Command& command,
               const ExecuteCommand& execute) {
  const OperationId id = execute.operation;
  Operation* operation = state.operations.Find(id);
  absl::Status outcome;
  if (operation != nullptr && operation->state == OperationState::kPrepared) {
    operation->state = OperationState::kRunning;
    operation->deadline_at = state.now + operation->deadline;
    state.out.Add(StartExecution{id});
    AnswerLater(state, command.epoch, command.id);
    return;
  }
  if (operation == nullptr) {
    outcome = NotKnown(state, id);
  } else if (operation->state != OperationState::kRunning &&
             operation->state != OperationState::kVoted) {
    outcome = WrongState(state, *operation, "executed");
  }
  Answer(state, command.epoch, command.id, outcome);
}

void OnCommit(CoreState& state, const Command& command,
              const CommitCommand& commit) {
  Operation* operation = state.operations.Find(commit.operation);
  absl::Status outcome;
  if (operation == nullptr) {
    if (!state.operations.WasCommitted(commit.operation)) {
      outcome = NotKnown(state, commit.operation);
    }
  } else if (operation->state == OperationState::kVoted) {
    Commit(state, *operation, commit.version);
  } else {
    outcome = WrongState(state, *operation, "committed");
  }
  Answer(state, command.epoch, command.id, outcome);
}

void OnAbort(CoreState& state, const Command& command,
             const AbortCommand& abort) {
  Answer(state, command.epoch, command.id, absl::OkStatus());
  Operation* operation = state.operations.Find(abort.operation);
  if (operation == nullptr) {
    state.out.Tell(StoppedEvent{abort.operation});
    return;
  }
  const absl::Status reason =
      abort.reason.ok() ? absl::AbortedError("aborted by the coordinator")
                        : abort.reason;
  Abort(state, *operation, reason);
}

void OnRelease(CoreState& state, const Command& command, OperationId id) {
  Operation* operation = state.operations.Find(id);
  absl::Status outcome;
  if (operation != nullptr) {
    if (operation->state == OperationState::kStopping) {
      // Whoever gave up waiting for the stop has released it already.
      operation->released = true;
    } else if (operation->active()) {
      outcome = WrongState(state, *operation, "released");
    } else {
      Drop(state, *operation);
    }
  }
  Answer(state, command.epoch, command.id, outcome);
}

void OnExecutionPrepared(CoreState& state,
                         const ExecutionPreparedEvent& event) {
  Operation* operation = state.operations.Find(event.operation);
  if (operation == nullptr || operation->state != OperationState::kBinding) {
    return;
  }
  if (!event.status.ok()) {
    operation->has_execution = false;
    DiscardTargets(state, *operation);
    AnswerOperation(state, *operation, event.status);
    if (operation->abort_ordered) {
      BecomeStopped(state, *operation);
    } else {
      Drop(state, *operation);
    }
    return;
  }
  operation->state = OperationState::kPrepared;
  AnswerOperation(state, *operation, operation->stop_reason);
  if (!operation->stop_reason.ok()) {
    Stop(state, *operation, operation->stop_reason);
  }
}

void OnProgress(CoreState& state, const ExecutionProgressEvent& event) {
  const Operation* operation = state.operations.Find(event.operation);
  if (operation == nullptr || operation->state != OperationState::kRunning) {
    return;
  }
  state.out.Tell(ProgressEvent{event.operation, event.bytes_done});
}

void OnExecutionDone(CoreState& state, const ExecutionDoneEvent& event) {
  Operation* operation = state.operations.Find(event.operation);
  if (operation == nullptr || (operation->state != OperationState::kPrepared &&
                               operation->state != OperationState::kRunning &&
                               operation->state != OperationState::kStopping)) {
    return;
  }
  FinishRun(state, *operation, event.status, event.stats, event.blamed);
}

void OnLoadDone(CoreState& state, const LoadDoneEvent& event) {
  OnExecutionDone(state, {event.operation, event.status, event.stats, kNoRank});
}

void OnDigestsRead(CoreState& state, const DigestsReadEvent& event) {
  Operation* operation = state.operations.Find(event.operation);
  if (operation == nullptr || operation->type != OperationType::kDigests) {
    return;
  }
  if (operation->abort_ordered) {
    AnswerOperation(state, *operation, operation->stop_reason);
    BecomeStopped(state, *operation);
    return;
  }
  if (event.status.ok() && operation->epoch == state.log.epoch()) {
    for (auto it = event.digests.begin(); it != event.digests.end();) {
      const auto end = it + std::min(kDigestsPerEvent,
                                     std::distance(it, event.digests.end()));
      state.out.Tell(DigestsEvent{event.operation, {it, end}});
      it = end;
    }
  }
  // An answer that is repeated without its digests is worth nothing: the same
  // command reads again.
  const CommandId command = *operation->answer_to;
  AnswerOperation(state, *operation, event.status);
  if (operation->epoch == state.log.epoch()) state.log.Forget(command);
  Drop(state, *operation);
}

void EndOldEpoch(CoreState& state, Epoch epoch) {
  const absl::Status reason = absl::AbortedError(
      absl::StrCat("a coordinator of epoch ", epoch.value(), " took over"));
  std::vector<OperationId> waiting;
  for (auto& [id, operation] : state.operations.all()) {
    if (operation.state == OperationState::kWaiting) {
      waiting.push_back(id);
    } else {
      Stop(state, operation, reason);
    }
  }
  for (const OperationId id : waiting) Drop(state, *state.operations.Find(id));
}

bool ExpireOperations(CoreState& state) {
  bool any = false;
  for (auto& [id, operation] : state.operations.all()) {
    const bool open = operation.state == OperationState::kBinding ||
                      operation.state == OperationState::kPrepared ||
                      operation.state == OperationState::kRunning;
    if (!open || state.now < operation.deadline_at ||
        !operation.stop_reason.ok()) {
      continue;
    }
    Stop(state, operation,
         absl::DeadlineExceededError(absl::StrCat(
             "operation ", id.value(), " was not complete on agent ",
             state.options.name, " after ",
             absl::FormatDuration(operation.deadline),
             operation.state == OperationState::kBinding
                 ? ", for which it waited for memory to be handed over"
                 : "")));
    any = true;
  }
  return any;
}

absl::Status MemoryEnded(const CoreState& state, const Placement& placement) {
  return absl::AbortedError(
      absl::StrCat("placement ", placement.Name(), " on agent ",
                   state.options.name, ": worker ", placement.lender_name,
                   ", with which its memory ended, has gone"));
}

absl::Status CheckSourceThere(const CoreState& state,
                              const Operation& operation) {
  if (operation.source.placement == nullptr ||
      operation.source.copy().buffer != BufferId()) {
    return absl::OkStatus();
  }
  return MemoryEnded(state, *operation.source.placement);
}

// Whether peers of the node read, with nothing to compare it with, what this
// agent has voted for.
bool ReadUnproven(const CoreState& state, const Operation& operation) {
  return !operation.prepare.digests &&
         std::any_of(
             operation.part->transfers.begin(), operation.part->transfers.end(),
             [&](const Transfer& transfer) {
               return transfer.source == state.rank &&
                      transfer.destination != state.rank &&
                      transfer.link == LinkClass::kSameNode &&
                      transfer.bytes > 0 && !transfer.reads_after.has_value();
             });
}

void StopUsersOf(CoreState& state, const Placement& placement) {
  const absl::Status reason = MemoryEnded(state, placement);
  for (auto& [id, operation] : state.operations.all()) {
    if (operation.state == OperationState::kVoted &&
        operation.source.placement.get() == &placement &&
        operation.type == OperationType::kParameters &&
        ReadUnproven(state, operation)) {
      // It still waits for the decision, which may have been taken already.
      operation.vote.outcome = reason;
      state.out.Tell(operation.vote);
    }
    bool uses = operation.source.placement.get() == &placement;
    for (const CopyRef& target : operation.destinations) {
      uses = uses || target.placement.get() == &placement;
    }
    if (uses && operation.stop_reason.ok()) Stop(state, operation, reason);
  }
}

void AnswerOperation(CoreState& state, Operation& operation,
                     const absl::Status& outcome) {
  if (!operation.answer_to.has_value()) return;
  Answer(state, operation.epoch, *operation.answer_to, outcome);
  operation.answer_to.reset();
}

void MarkWanted(Operation& operation) {
  for (const CopyRef& destination : operation.destinations) {
    if (destination.placement == nullptr) continue;
    CopySet& copies = destination.placement->copies;
    copies.copy(copies.Target()).wanted_by.insert(operation.id);
  }
}

void ClearWanted(Operation& operation) {
  for (const CopyRef& target : operation.destinations) {
    if (target.placement == nullptr) continue;
    CopySet& copies = target.placement->copies;
    for (int i = 0; i < copies.size(); ++i) {
      copies.copy(i).wanted_by.erase(operation.id);
    }
  }
}

void Drop(CoreState& state, Operation& operation) {
  if (!operation.targets_taken) WithdrawOverwrite(state, operation);
  DiscardTargets(state, operation);
  ClearWanted(operation);
  if (operation.source.placement != nullptr) {
    operation.source.copy().readers.erase(operation.id);
  }
  if (operation.has_execution) state.out.Add(ReleaseExecution{operation.id});
  for (const BufferId buffer : operation.held_buffers) {
    state.buffers.Unhold(buffer);
  }
  state.operations.Erase(operation.id);
}

}  // namespace sluice::agent
