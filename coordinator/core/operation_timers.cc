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
  const absl::Duration still = d_.context.now - op.last_progress;
  absl::Duration allowed =
      op.options.progress_timeout + d_.context.options.command_timeout;
  if (!op.group.members.empty()) {
    // Its communicator may have to be made first.
    allowed += op.options.wait_deadline + PatienceOfOthers(op);
  }
  if (still < allowed) return;
  Fail(op, absl::DeadlineExceededError(absl::StrCat(
               "no progress for ", absl::FormatDuration(still),
               "; no vote from agents ", absl::StrJoin(WaitingFor(op), ", "))));
}

// How long others that take turns with it on an agent may stand still, before
// they end and let it go on.
absl::Duration OperationTracker::PatienceOfOthers(const Operation& op) const {
  absl::Duration patience = absl::ZeroDuration();
  for (const auto& [id, other] : running_) {
    if (other.get() == &op || other->finished) continue;
    for (const MessageGroup::Member& member : other->group.members) {
      const bool shared =
          std::find(op.group.members.begin(), op.group.members.end(), member) !=
          op.group.members.end();
      if (shared) {
        patience = std::max(patience, other->options.progress_timeout);
        break;
      }
    }
  }
  return patience;
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
