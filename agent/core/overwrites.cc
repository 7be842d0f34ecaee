#include "agent/core/overwrites.h"

#include "absl/strings/str_cat.h"
#include "agent/core/lookups.h"
#include "agent/core/placements.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

absl::Status Acknowledge(CoreState& state,
                         const AcknowledgeOverwriteRequest& request) {
  SLUICE_RETURN_IF_ERROR(CheckSession(state, request.session));
  SLUICE_ASSIGN_OR_RETURN(
      const PlacementPtr placement,
      FindPlacement(state, request.model, request.placement));
  if (placement->lender != request.session) {
    return absl::FailedPreconditionError(
        absl::StrCat("placement ", placement->Name(), " on agent ",
                     state.options.name, ": its memory is not this worker's"));
  }
  // An older number is of an overwriting that was withdrawn.
  if (placement->overwrite_announced == request.overwrite) {
    placement->overwrite_known = request.overwrite;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<bool> WorkersKnowOfOverwrite(CoreState& state,
                                            const Operation& operation) {
  bool known = true;
  for (const CopyRef& target : operation.destinations) {
    if (target.placement == nullptr || !target.placement->lent()) continue;
    Placement& placement = *target.placement;
    if (placement.lender == SessionId()) {
      return absl::FailedPreconditionError(
          absl::StrCat("placement ", placement.Name(), " on agent ",
                       state.options.name, ": worker ", placement.lender_name,
                       ", which lent its memory, has left"));
    }
    if (placement.overwrite_announced == 0) {
      placement.overwrite_announced = ++state.last_overwrite;
      Tell(state, placement, Version());
    }
    known = known && placement.overwrite_known == placement.overwrite_announced;
  }
  return known;
}

void OnAcknowledgeOverwrite(CoreState& state,
                            const AcknowledgeOverwriteRequest& request) {
  state.out.Respond(request.call, Acknowledge(state, request),
                    AcknowledgeOverwriteReply{});
}

void ForgetOverwrite(Placement& placement) {
  placement.overwrite_announced = placement.overwrite_known = 0;
}

void WithdrawOverwrite(CoreState& state, const Operation& operation) {
  for (const CopyRef& target : operation.destinations) {
    if (target.placement == nullptr) continue;
    if (target.placement->overwrite_announced == 0) continue;
    ForgetOverwrite(*target.placement);
    TellCurrentVersion(state, *target.placement, Version());
  }
}

}  // namespace sluice::agent
