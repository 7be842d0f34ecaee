// Part of OperationTracker: loads of a checkpoint into a placement.

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/core/operation_tracker.h"

namespace sluice::coordinator {
namespace {

constexpr size_t kMaxDirectoryBytes = 4096;

absl::Status CheckDirectory(const std::string& directory) {
  if (directory.size() > kMaxDirectoryBytes || directory.empty() ||
      directory.front() != '/' || directory.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "directory: expected an absolute path of at most ", kMaxDirectoryBytes,
        " bytes, got ", directory.size(), " bytes",
        directory.empty() || directory.size() > kMaxDirectoryBytes
            ? ""
            : absl::StrCat(": \"", directory, "\"")));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status OperationTracker::CheckLoadable(const Placement& placement) const {
  SLUICE_RETURN_IF_ERROR(CheckMembers(placement));
  if (placement.storage != Storage::kLent) return absl::OkStatus();
  for (const PlacementMember& member : placement.members) {
    const absl::string_view why =
        !member.lent ? "no worker lends its memory yet"
        : member.copy.state == CopyState::kWriting ? "a write bracket is open"
                                                   : "";
    if (why.empty()) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("placement \"", placement.Name(),
                     "\": ", d_.agents.NameOf(member.rank), ": ", why));
  }
  return absl::OkStatus();
}

absl::Status OperationTracker::Check(const LoadRequest& request,
                                     Operation& op) {
  SLUICE_ASSIGN_OR_RETURN(
      const Placement* placement,
      d_.models.FindPlacement(request.model, request.placement));
  SLUICE_RETURN_IF_ERROR(CheckDirectory(request.directory));
  SLUICE_RETURN_IF_ERROR(CheckLoadable(*placement));
  op.writes.push_back(placement->ref);
  op.claims.writes.emplace_back(request.model, request.placement);
  op.description = absl::StrCat(request.model, ": ", request.directory, " -> ",
                                request.placement);
  return absl::OkStatus();
}

void OperationTracker::AdmitLoad(Operation& op) {
  const Placement& placement = *d_.models.Find(op.writes[0]);
  if (absl::Status status = CheckLoadable(placement); !status.ok()) {
    Fail(op, status);
    return;
  }
  const LoadRequest& request = std::get<LoadRequest>(op.request);
  std::map<Rank, int64_t> bytes;
  for (size_t i = 0; i < placement.members.size(); ++i) {
    bytes[placement.members[i].rank] = placement.bytes[i];
    op.bytes_total += placement.bytes[i];
  }
  for (const auto& [rank, size] : bytes) {
    Participant participant;
    participant.rank = rank;
    participant.told = true;
    participant.before = placement.Member(rank)->copy;
    op.participants.push_back(std::move(participant));
  }
  Enter(op, OperationPhase::kPreparing);
  op.phase_deadline =
      std::min(op.deadline, d_.context.now + op.options.wait_deadline +
                                d_.context.options.command_timeout);
  for (const Participant& participant : op.participants) {
    // Lent memory has one copy: from here on nobody reads it.
    if (placement.storage == Storage::kLent) {
      d_.models.SetUnreadable(placement.ref, participant.rank,
                              CopyState::kFilling);
    }
    d_.agents.Send(participant.rank,
                   LoadCommand{op.id, placement.ref, request.directory,
                               op.deadline - d_.context.now});
  }
}

void OperationTracker::OnLoadAnswered(Operation& op, Participant& participant,
                                      const absl::Status& outcome) {
  if (outcome.ok()) {
    participant.prepared = true;
    AfterPrepared(op);
    return;
  }
  OnLoadRefused(op, participant);
  MarkStopped(op, participant);
  FailBy(op, participant.rank, outcome);
}

// Nothing was written: the memory holds what it held.
void OperationTracker::OnLoadRefused(Operation& op, Participant& participant) {
  Placement* placement = d_.models.Find(op.writes[0]);
  PlacementMember* member =
      placement == nullptr ? nullptr : placement->Member(participant.rank);
  if (member != nullptr && member->copy.state == CopyState::kFilling) {
    member->copy = participant.before;
  }
}

}  // namespace sluice::coordinator
