#include "coordinator/core/step_assigner.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice::coordinator {

void StepAssigner::LogWrite(Rank rank, const WriteEvent& write) {
  if (write.kind != WriteEvent::Kind::kTorn) return;
  log_.Add("copy_torn", agents_.Get(rank)->name,
           absl::StrCat("placement \"", write.placement.model, "/",
                        write.placement.placement, "\": worker \"",
                        write.worker, "\" has gone and left no whole content"));
}

void StepAssigner::OnWrite(Rank rank, uint64_t event_id,
                           const WriteEvent& write) {
  absl::Status status = models_.ApplyWrite(rank, write);
  Placement* placement = models_.Find(write.placement);
  if (!status.ok() || placement == nullptr) {
    agents_.Ack(rank, event_id, status);
    return;
  }
  LogWrite(rank, write);
  const int64_t index = placement->IndexOf(rank);
  const int64_t replica = placement->replica_of[static_cast<size_t>(index)];
  if (const int64_t step = placement->UnassignedStep(replica);
      step != 0 && event_id != 0) {
    waiting_.push_back({rank, agents_.Get(rank)->incarnation, event_id,
                        placement->ref, replica, step});
  } else {
    agents_.Ack(rank, event_id, absl::OkStatus());
  }
  AssignAll(*placement);
}

void StepAssigner::OnInventory(Placement& placement) { AssignAll(placement); }

void StepAssigner::AssignAll(Placement& placement) {
  for (int64_t r = 0; r < placement.num_replicas; ++r) {
    const std::optional<StepAssignment> assignment =
        models_.AssignStep(placement, r);
    if (!assignment.has_value()) continue;
    if (!assignment->is_new) {
      Tell(*assignment);
      continue;
    }
    VersionRecord record{assignment->placement.model, assignment->version,
                         assignment->placement.placement, assignment->step};
    store_.WriteUntilDone({std::move(record)}, [this, assigned = *assignment](
                                                   const absl::Status&) {
      Tell(assigned);
      log_.Add("version_assigned", assigned.placement.model,
               absl::StrCat("version ", assigned.version.value(), " is step ",
                            assigned.step, " of placement \"",
                            assigned.placement.placement, "\""));
      // Other replicas may have ended the step while it was written.
      if (Placement* placement = models_.Find(assigned.placement)) {
        AssignAll(*placement);
      }
    });
  }
}

void StepAssigner::Tell(const StepAssignment& assignment) {
  models_.SetAssigned(assignment);
  std::erase_if(waiting_, [&](const WaitingAck& ack) {
    if (ack.placement != assignment.placement ||
        ack.replica != assignment.replica || ack.step != assignment.step) {
      return false;
    }
    // Another life of the agent has other event ids.
    if (agents_.Get(ack.rank)->incarnation == ack.incarnation) {
      agents_.Ack(ack.rank, ack.event_id, absl::OkStatus(), assignment.version);
    }
    return true;
  });
  const Placement* placement = models_.Find(assignment.placement);
  if (placement == nullptr) return;
  for (const Rank rank : placement->RanksOfReplica(assignment.replica)) {
    const CopyInventory& copy = placement->Member(rank)->copy;
    if (copy.state == CopyState::kPublished && copy.step == assignment.step &&
        copy.version == assignment.version) {
      agents_.Send(rank,
                   VersionAssignedCommand{assignment.placement, assignment.step,
                                          assignment.version});
    }
  }
}

}  // namespace sluice::coordinator
