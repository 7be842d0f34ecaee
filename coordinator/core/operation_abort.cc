// Part of OperationTracker: failures, and stopping what runs.

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/core/operation_tracker.h"

namespace sluice::coordinator {

// The first failure counts; after the decision was ordered there is none.
void OperationTracker::Fail(Operation& op, const absl::Status& status) {
  if (op.finished || op.Committed() || !op.failure.ok()) return;
  op.failure = Annotate(
      status, absl::StrCat(Title(op), " failed while ", PhaseName(op.phase)));
  op.waits_for_staging = false;
  bool told = false;
  for (Participant& p : op.participants) {
    if (op.kind == OperationKind::kVerify && p.voted) p.stopped = true;
    told = told || (p.told && !p.stopped);
  }
  if (!told) {
    FinishFailed(op);
    return;
  }
  Enter(op, OperationPhase::kAborting);
  op.phase_deadline = d_.context.now + d_.context.options.abort_timeout;
  for (const Participant& p : op.participants) {
    if (!p.told || p.stopped) continue;
    d_.agents.Send(p.rank, AbortCommand{op.id, op.failure});
    TearLent(op, p);
  }
  AfterStopped(op);
}

void OperationTracker::FailBy(Operation& op, Rank rank,
                              const absl::Status& status) {
  Fail(op, Annotate(status, d_.agents.NameOf(rank)));
  AfterStopped(op);
}

// The first failure that is told often comes from one that only felt the death
// of another, even by way of a third. By the time all have stopped it is known
// who broke off.
void OperationTracker::NameBrokenOff(Operation& op) {
  if (absl::IsCancelled(op.failure)) return;  // nobody's fault
  std::string broken;
  for (const Participant& p : op.participants) {
    const std::string name = d_.agents.NameOf(p.rank);
    const bool broke_off =
        p.told && !p.stopped && (p.gone || !d_.agents.Get(p.rank)->stream_up);
    if (!broke_off || absl::StrContains(op.failure.message(),
                                        absl::StrCat(name, " was lost"))) {
      continue;
    }
    absl::StrAppend(&broken, broken.empty() ? "" : ", ", name);
  }
  if (broken.empty()) return;
  op.failure = absl::UnavailableError(absl::StrCat(
      broken, " broke off (its connection is down); ", op.failure.message()));
}

// An aborted load leaves the one copy of lent memory half written; where it had
// not begun to write, the agent's inventory says so afterwards.
void OperationTracker::TearLent(const Operation& op, const Participant& p) {
  if (op.kind != OperationKind::kLoad) return;
  const Placement* placement = d_.models.Find(op.writes[0]);
  if (placement == nullptr || placement->storage != Storage::kLent) return;
  const PlacementMember* member = placement->Member(p.rank);
  if (member != nullptr && member->copy.state == CopyState::kFilling) {
    d_.models.SetUnreadable(placement->ref, p.rank, CopyState::kTorn);
  }
}

void OperationTracker::MarkStopped(Operation& op, Participant& participant) {
  participant.stopped = true;
  d_.agents.FreeStaging(participant.rank, op.id);
  Wake();
}

void OperationTracker::OnStopped(Rank rank, OperationId id) {
  d_.agents.ExecuteAnswered(rank, id);
  Operation* op = FindRunning(id);
  Participant* participant = op == nullptr ? nullptr : op->Find(rank);
  if (participant == nullptr) {
    // Ended here, or of an earlier life: the agent may forget it.
    d_.agents.FreeStaging(rank, id);
    if (d_.decisions.Find(id) == nullptr) {
      d_.agents.Send(rank, ReleaseCommand{id});
    }
    Wake();
    return;
  }
  if (op->phase != OperationPhase::kAborting) return;  // from before
  MarkStopped(*op, *participant);
  if (op->kind == OperationKind::kLoad) d_.agents.RequestInventory(rank);
  AfterStopped(*op);
}

void OperationTracker::AfterStopped(Operation& op) {
  if (op.finished || op.phase != OperationPhase::kAborting) return;
  // One whose connection is down cannot answer; it is told when it is back.
  const bool all = std::all_of(op.participants.begin(), op.participants.end(),
                               [&](const Participant& p) {
                                 return !p.told || p.stopped || p.gone ||
                                        !d_.agents.Get(p.rank)->stream_up ||
                                        op.kind == OperationKind::kVerify;
                               });
  if (!all && d_.context.now < op.phase_deadline) return;
  NameBrokenOff(op);
  for (const Participant& p : op.participants) {
    if (p.told) d_.agents.Send(p.rank, ReleaseCommand{op.id});
  }
  FinishFailed(op);
}

void OperationTracker::OnMembershipChange(const MembershipChange& change) {
  std::vector<Operation*> affected;
  for (auto& [id, op] : running_) {
    if (!op->finished && op->Find(change.rank) != nullptr) {
      affected.push_back(op.get());
    }
  }
  for (Operation* op : affected) {
    op->Find(change.rank)->gone = true;
    Fail(*op,
         absl::UnavailableError(absl::StrCat(d_.agents.NameOf(change.rank),
                                             " was lost: ", change.reason)));
    AfterConfirmed(*op);
    AfterStopped(*op);
  }
  Wake();
}

}  // namespace sluice::coordinator
