// Part of OperationTracker: reading landed memory again and comparing digests.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "coordinator/core/compared_types.h"
#include "coordinator/core/operation_tracker.h"

namespace sluice::coordinator {

absl::Status OperationTracker::Check(const VerifyRequest& request,
                                     Operation& op) {
  std::vector<std::string> names = {request.placement};
  if (!request.against.empty()) names.push_back(request.against);
  if (request.against == request.placement) {
    return absl::InvalidArgumentError(
        absl::StrCat("placement \"", request.placement,
                     "\" cannot be compared with itself; "
                     "its replicas are compared without `against`"));
  }
  for (const std::string& name : names) {
    SLUICE_ASSIGN_OR_RETURN(const Placement* placement,
                            d_.models.FindPlacement(request.model, name));
    op.to_verify.push_back(placement->ref);
    op.claims.reads.emplace_back(request.model, name);
  }
  op.description =
      absl::StrCat(request.model, ": ", absl::StrJoin(names, " against "));
  return absl::OkStatus();
}

// The version that all replicas of the placement hold, and at least one of the
// other placement.
absl::Status OperationTracker::ChooseVerifiedVersion(Operation& op) const {
  for (size_t i = 0; i < op.to_verify.size(); ++i) {
    const Placement& placement = *d_.models.Find(op.to_verify[i]);
    if (i == 0) op.version = placement.NewestComplete();
    std::vector<std::string> replicas;
    bool complete = op.version != Version() && i > 0;
    bool any_missing = op.version == Version();
    bool any = false;
    for (int64_t r = 0; r < placement.num_replicas; ++r) {
      const Version version = placement.ReplicaVersion(r);
      replicas.push_back(absl::StrCat(
          "replica ", r, ": ",
          version == Version() ? "none" : absl::StrCat(version.value())));
      const bool has = version == op.version && version != Version();
      any = any || has;
      any_missing = any_missing || !has;
      if (!has) continue;
      for (const Rank rank : placement.RanksOfReplica(r)) {
        SLUICE_RETURN_IF_ERROR(d_.agents.CheckUsable(rank));
      }
    }
    complete = complete ? any : !any_missing;
    if (complete) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "no common version: placement \"", placement.Name(), "\" has ",
        absl::StrJoin(replicas, ", "),
        i == 0 ? "" : absl::StrCat("; expected ", op.version.value())));
  }
  return absl::OkStatus();
}

void OperationTracker::AdmitVerify(Operation& op) {
  if (absl::Status status = ChooseVerifiedVersion(op); !status.ok()) {
    Fail(op, status);
    return;
  }
  if (op.to_verify.size() == 2) {
    absl::StatusOr<std::vector<DType>> types =
        ComparedTypes(/*source=*/*d_.models.Find(op.to_verify[1]),
                      /*destination=*/*d_.models.Find(op.to_verify[0]));
    if (!types.ok()) {
      Fail(op, types.status());
      return;
    }
    op.compared_types = *std::move(types);
  }
  for (const PlacementRef& ref : op.to_verify) {
    const Placement& placement = *d_.models.Find(ref);
    for (size_t i = 0; i < placement.bytes.size(); ++i) {
      if (placement.ReplicaVersion(placement.replica_of[i]) == op.version) {
        op.bytes_total += placement.bytes[i];
      }
    }
  }
  ReadNext(op);
}

// Has the next placement read by all members of replicas with the version.
void OperationTracker::ReadNext(Operation& op) {
  const PlacementRef& ref = op.to_verify[op.verified.size()];
  const Placement& placement = *d_.models.Find(ref);
  op.participants.clear();
  for (size_t i = 0; i < placement.members.size(); ++i) {
    if (placement.ReplicaVersion(placement.replica_of[i]) != op.version) {
      continue;
    }
    Participant participant;
    participant.rank = placement.members[i].rank;
    participant.told = true;
    op.participants.push_back(std::move(participant));
  }
  std::sort(op.participants.begin(), op.participants.end(),
            [](const Participant& a, const Participant& b) {
              return a.rank < b.rank;
            });
  if (op.phase != OperationPhase::kExecuting) {
    Enter(op, OperationPhase::kExecuting);
  }
  for (const Participant& participant : op.participants) {
    d_.agents.Send(participant.rank, ReadDigestsCommand{op.id, ref, op.version,
                                                        op.compared_types});
  }
  if (op.participants.empty()) FinishReading(op);
}

void OperationTracker::OnDigests(Rank rank, const DigestsEvent& digests) {
  Operation* op = FindRunning(digests.operation);
  Participant* participant = op == nullptr ? nullptr : op->Find(rank);
  if (participant == nullptr || op->kind != OperationKind::kVerify ||
      participant->voted) {
    return;
  }
  const PlacementRef& ref = op->to_verify[op->verified.size()];
  const size_t tensors = d_.models.Find(ref)->spec->tensors.size();
  for (const BoxDigest& box : digests.digests) {
    if (box.tensor.value() < 0 ||
        static_cast<size_t>(box.tensor.value()) >= tensors) {
      FailBy(*op, rank,
             absl::InternalError(absl::StrCat(
                 "a digest of tensor ", box.tensor.value(), " of ", tensors)));
      return;
    }
    participant->digests[{box.tensor, box.box}] = box.digest;
  }
}

void OperationTracker::OnDigestsRead(Operation& op, Participant& participant,
                                     const absl::Status& outcome) {
  if (!outcome.ok()) {
    MarkStopped(op, participant);
    FailBy(op, participant.rank, outcome);
    return;
  }
  const Placement& placement =
      *d_.models.Find(op.to_verify[op.verified.size()]);
  participant.prepared = participant.voted = true;
  participant.bytes_done =
      placement.bytes[static_cast<size_t>(placement.IndexOf(participant.rank))];
  participant.stats.digest_bytes = participant.bytes_done;
  op.last_progress = d_.context.now;
  const bool all = std::all_of(op.participants.begin(), op.participants.end(),
                               [](const Participant& p) { return p.voted; });
  if (all) FinishReading(op);
}

void OperationTracker::FinishReading(Operation& op) {
  const Placement& placement =
      *d_.models.Find(op.to_verify[op.verified.size()]);
  PlacementDigests read;
  read.placement = placement.ref.placement;
  for (Participant& p : op.participants) {
    const size_t index = static_cast<size_t>(placement.IndexOf(p.rank));
    read.agents.push_back(AgentDigests{placement.agents[index],
                                       placement.replica_of[index],
                                       std::move(p.digests)});
    p.digests.clear();
  }
  op.verified.push_back(std::move(read));
  if (op.verified.size() < op.to_verify.size()) {
    ReadNext(op);
    return;
  }
  const absl::Status status =
      ComparePlacements(*placement.spec, op.verified, &op.digests_compared);
  if (status.ok()) {
    FinishOk(op);
  } else {
    Fail(op, status);
  }
}

}  // namespace sluice::coordinator
