// Part of OperationTracker: deadlines and progress.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/core/operation_tracker.h"

namespace sluice::coordinator {

void OperationTracker::Tick() {
  for (auto& [id, op] : running_) {
    if (op->finished) continue;
    TickOperation(*op);
    if (!op->finished && op->BytesDone() != op->bytes_told) Update(*op);
  }
  Wake();  // queued operations may wait for time alone
}

void OperationTracker::TickOperation(Operation& op) {
  const absl::Time now = d_.context.now;
  switch (op.phase) {
    case OperationPhase::kQueued:
    case OperationPhase::kPlanning:
    case OperationPhase::kPreparing:
    case OperationPhase::kExecuting:
      if (now >= op.phase_deadline) {
        const std::vector<std::string> names = WaitingFor(op);
        Fail(op,
             absl::DeadlineExceededError(absl::StrCat(
                 "not done after ", absl::FormatDuration(now - op.phase_since),
                 " in ", PhaseName(op.phase),
                 names.empty() ? "" : "; no answer from agents ",
                 absl::StrJoin(names, ", "))));
      } else if (op.phase == OperationPhase::kExecuting) {
        TickExecuting(op);
      }
      return;
    case OperationPhase::kCommitting:
      if (op.decided && now >= op.phase_deadline) {
        d_.log.Add("commit_unconfirmed", op.description,
                   absl::StrCat(Title(op), " is committed; not confirmed by ",
                                absl::StrJoin(WaitingFor(op), ", ")));
        FinishOk(op);
      }
      return;
    case OperationPhase::kAborting:
      AfterStopped(op);
      return;
    case OperationPhase::kDone:
    case OperationPhase::kFailed:
    case OperationPhase::kUnspecified:
      return;
  }
}

// Agents have a progress floor of their own; this one is for agents that have
// stopped saying anything at all. A load has no floor but its deadline.
void OperationTracker::TickExecuting(Operation& op) {
  if (op.kind == OperationKind::kLoad || op.kind == OperationKind::kVerify) {
    return;
  }
  if (WaitsForSegment(op)) op.last_progress = d_.context.now;
  const absl::Duration still = d_.context.now - op.last_progress;
  absl::Duration allowed =
      op.options.progress_timeout + d_.context.options.command_timeout;
  // Its communicator may have to be made first.
  if (!op.group.members.empty()) allowed += op.options.wait_deadline;
  if (still < allowed) return;
  Fail(op, absl::DeadlineExceededError(absl::StrCat(
               "no progress for ", absl::FormatDuration(still),
               "; no vote from agents ", absl::StrJoin(WaitingFor(op), ", "))));
}

// Whether another operation's messages go before these on one of its agents.
bool OperationTracker::WaitsForSegment(const Operation& op) const {
  for (const auto& [id, other] : running_) {
    if (other.get() == &op || other->finished ||
        other->phase != OperationPhase::kExecuting) {
      continue;
    }
    for (const Participant& p : other->participants) {
      const Participant* mine = op.Find(p.rank);
      if (mine != nullptr && p.segment.number != 0 &&
          p.segment.number < mine->segment.number) {
        return true;
      }
    }
  }
  return false;
}

void OperationTracker::ExtendDeadlines(absl::Duration gap) {
  for (auto& [id, op] : running_) {
    op->deadline += gap;
    op->phase_deadline += gap;
    op->last_progress += gap;
    op->wait_until += gap;
  }
}

}  // namespace sluice::coordinator
