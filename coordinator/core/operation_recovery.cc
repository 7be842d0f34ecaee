// Part of OperationTracker: making an agent that came (back) and this
// coordinator agree about what is under way.
//
// What an agent lists is one of three things: running here - it goes on;
// decided - it gets its Commit, unless it has committed; neither -
// it was aborted, or belonged to a coordinator that ended before it decided.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "coordinator/core/operation_tracker.h"

namespace sluice::coordinator {
namespace {

bool Lists(const std::vector<OperationId>& operations, OperationId id) {
  return std::find(operations.begin(), operations.end(), id) !=
         operations.end();
}

}  // namespace

void OperationTracker::OnInventory(Rank rank, const InventoryEvent& inventory) {
  ReconcileRunning(rank, inventory);
  ReconcileDecided(rank, inventory);
  EndUnknown(rank, inventory);
  Wake();
}

void OperationTracker::ReconcileRunning(Rank rank,
                                        const InventoryEvent& inventory) {
  for (auto& [id, op] : running_) {
    Participant* participant = op->finished ? nullptr : op->Find(rank);
    if (participant == nullptr || !participant->told) continue;
    const bool listed =
        Lists(inventory.operations, id) || Lists(inventory.undecided, id);
    if (op->kind == OperationKind::kVerify) {
      // Digests may have been lost on the way, and nobody knows which.
      if (!participant->voted) {
        FailBy(*op, rank,
               absl::UnavailableError(
                   "its connection broke while it read digests; try again"));
      }
    } else if (op->phase == OperationPhase::kAborting) {
      if (!listed && !participant->stopped) {
        MarkStopped(*op, *participant);
        AfterStopped(*op);
      }
    } else if (!op->Committed() && participant->prepared && !listed) {
      MarkStopped(*op, *participant);
      FailBy(*op, rank, absl::AbortedError("it does not know of it any more"));
    }
  }
}

void OperationTracker::ReconcileDecided(Rank rank,
                                        const InventoryEvent& inventory) {
  const CommandOutbox& outbox = d_.agents.Get(rank)->outbox;
  for (const OperationId id : d_.decisions.UnconfirmedBy(rank)) {
    if (outbox.Has<CommitCommand>([id](const CommitCommand& commit) {
          return commit.operation == id;
        })) {
      continue;  // it is sent again anyway
    }
    if (Lists(inventory.undecided, id)) {
      d_.agents.Send(rank,
                     CommitCommand{id, d_.decisions.Find(id)->record.version});
      continue;
    }
    // It has committed, or it is another life that knows nothing of it.
    if (Lists(inventory.operations, id)) {
      d_.agents.Send(rank, ReleaseCommand{id});
    }
    d_.decisions.Confirm(id, rank);
    if (Operation* op = FindRunning(id); op != nullptr) {
      op->Find(rank)->confirmed = true;
      AfterConfirmed(*op);
    }
  }
}

void OperationTracker::EndUnknown(Rank rank, const InventoryEvent& inventory) {
  std::vector<OperationId> listed = inventory.operations;
  listed.insert(listed.end(), inventory.undecided.begin(),
                inventory.undecided.end());
  std::sort(listed.begin(), listed.end());
  listed.erase(std::unique(listed.begin(), listed.end()), listed.end());
  const CommandOutbox& outbox = d_.agents.Get(rank)->outbox;
  for (const OperationId id : listed) {
    const auto is_of = [id](const auto& command) {
      return command.operation == id;
    };
    const Operation* op = FindRunning(id);
    const bool runs_here =
        op != nullptr &&
        std::any_of(op->participants.begin(), op->participants.end(),
                    [rank](const Participant& p) { return p.rank == rank; });
    if (runs_here || outbox.Has<CommitCommand>(is_of) ||
        outbox.Has<AbortCommand>(is_of) || outbox.Has<ReleaseCommand>(is_of)) {
      continue;
    }
    // Neither running nor decided (or long confirmed: then nothing is undecided
    // there and the agent only ends it).
    d_.agents.Send(
        rank,
        AbortCommand{id, absl::AbortedError(absl::StrCat(
                             "operation ", id.value(), " was not decided"))});
  }
}

}  // namespace sluice::coordinator
