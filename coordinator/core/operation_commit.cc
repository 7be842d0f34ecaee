// Part of OperationTracker: the decision.
//
// 1. All have voted: decision, version and outcome go to the store in one
//    write. Until it is durable nobody is told; from the order on nobody may
//    abort.
// 2. It is durable: the operation is committed whatever happens. Commit goes to
//    all agents; the ledger keeps who has not confirmed.
// 3. An agent confirms: what it published or inserted becomes visible here, and
//    it has let go of the operation.
// 4. All live agents have confirmed, or the time is over: the caller is told.
//    Who is still missing gets its Commit when it comes back.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/core/operation_tracker.h"

namespace sluice::coordinator {

Decision OperationTracker::MakeDecision(const Operation& op) const {
  Decision decision;
  decision.record.operation = op.id;
  decision.record.version = op.version;
  decision.record.placements = op.writes;
  for (const Participant& p : op.participants) {
    decision.record.agents.push_back(d_.agents.Get(p.rank)->name);
    decision.unconfirmed.insert(p.rank);
    if (op.kind == OperationKind::kRedistribute) {
      decision.landing[p.rank] = p.part;
    }
  }
  return decision;
}

void OperationTracker::Decide(Operation& op) {
  std::vector<Record> records;
  if (op.kind == OperationKind::kLoad) {
    const LoadRequest& request = std::get<LoadRequest>(op.request);
    op.version = d_.models.NewVersion(request.model);
    records.push_back(VersionRecord{request.model, op.version,
                                    request.placement, /*step=*/0});
  }
  op.deciding = true;
  Enter(op, OperationPhase::kCommitting);
  op.phase_deadline = absl::InfiniteFuture();
  records.push_back(MakeDecision(op).record);
  OutcomeRecord outcome = d_.outcomes.MakeRecord(
      op.options.request_id, absl::OkStatus(), MakeResult(op));
  if (!op.options.request_id.empty()) records.push_back(outcome);
  const OperationId id = op.id;
  d_.store.Write(std::move(records),
                 [this, id, outcome](const absl::Status& status) {
                   OnDecided(id, status, outcome);
                 });
}

void OperationTracker::OnDecided(OperationId id, const absl::Status& status,
                                 const OutcomeRecord& outcome) {
  // It can end in no other way while it is being decided.
  Operation& op = *running_.at(id);
  op.deciding = false;
  if (!status.ok()) {
    Fail(op, Annotate(status, "the decision could not be written"));
    return;
  }
  op.decided = true;
  op.phase_deadline = d_.context.now + d_.context.options.confirm_timeout;
  d_.outcomes.Finish(outcome, /*durable=*/true);
  d_.decisions.Add(MakeDecision(op));
  for (const Participant& participant : op.participants) {
    d_.agents.Send(participant.rank, CommitCommand{op.id, op.version});
  }
  Update(op);
  AfterConfirmed(op);
}

void OperationTracker::OnCommitAnswered(Rank rank, OperationId id,
                                        const absl::Status& outcome) {
  if (const Decision* decision = d_.decisions.Find(id);
      decision != nullptr && decision->unconfirmed.contains(rank)) {
    if (outcome.ok()) {
      ApplyCommit(rank, *decision);
    } else {
      d_.log.Add(
          "commit_failed", d_.agents.Get(rank)->name,
          absl::StrCat("operation ", id.value(), ": ", outcome.message()));
      d_.agents.RequestInventory(rank);
    }
    d_.decisions.Confirm(id, rank);
  }
  if (!outcome.ok()) d_.agents.Send(rank, ReleaseCommand{id});
  d_.agents.FreeStaging(rank, id);
  Wake();
  Operation* op = FindRunning(id);
  Participant* participant = op == nullptr ? nullptr : op->Find(rank);
  if (participant == nullptr) return;
  participant->confirmed = true;
  AfterConfirmed(*op);
}

void OperationTracker::ApplyCommit(Rank rank, const Decision& decision) {
  for (const PlacementRef& ref : decision.record.placements) {
    d_.models.SetPublished(ref, rank, decision.record.version);
  }
  if (decision.record.placements.empty() && decision.restored) {
    // Which samples it inserted is not known here any more.
    d_.agents.RequestInventory(rank);
    return;
  }
  const auto landing = decision.landing.find(rank);
  if (landing == decision.landing.end()) return;
  const PlanPart& part = *landing->second;
  for (const Transfer& transfer : part.transfers) {
    if (transfer.destination != rank) continue;
    for (const uint32_t entry : transfer.samples) {
      d_.catalog.AddHolder(rank, part.entries[entry], /*owned=*/false);
    }
  }
}

void OperationTracker::AfterConfirmed(Operation& op) {
  if (!op.decided) return;
  const bool all =
      std::all_of(op.participants.begin(), op.participants.end(),
                  [](const Participant& p) { return p.confirmed || p.gone; });
  if (all) FinishOk(op);
}

}  // namespace sluice::coordinator
