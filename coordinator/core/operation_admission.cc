// Part of OperationTracker: the queue, plans that are ready, staging memory.

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/overloaded.h"
#include "common/status_macros.h"
#include "coordinator/core/operation_tracker.h"

namespace sluice::coordinator {
namespace {

// Least staging memory of an agent that sends or receives between nodes: two of
// the largest buckets (4 MiB) each way, or what it has.
constexpr int64_t kMinStagingBytes = int64_t{16} << 20;

int64_t BytesOn(const std::vector<LinkBytes>& by_rank, Rank rank,
                LinkClass link) {
  if (rank.value() >= static_cast<int64_t>(by_rank.size())) return 0;
  return by_rank[static_cast<size_t>(rank.value())][static_cast<size_t>(link)];
}

}  // namespace

void OperationTracker::Pump() {
  while (std::exchange(awake_, false)) {
    for (auto& [id, op] : running_) {
      // One with a plan that was known waits in this phase for its staging.
      if (!op->finished && op->phase == OperationPhase::kQueued &&
          !op->waits_for_staging && MayLeaveQueue(*op)) {
        Admit(*op);
      }
    }
    TryReserveStaging();
    Reap();
  }
}

bool OperationTracker::MayLeaveQueue(const Operation& op) const {
  for (const auto& [id, other] : running_) {
    if (id == op.id) break;  // only those before it
    if (!other->finished && op.claims.ConflictsWith(other->claims)) {
      return false;
    }
  }
  return true;
}

void OperationTracker::Admit(Operation& op) {
  op.admitted = d_.context.now;
  switch (op.kind) {
    case OperationKind::kSync:
      AdmitSync(op);
      return;
    case OperationKind::kRedistribute:
      AdmitRedistribute(op);
      return;
    case OperationKind::kLoad:
      AdmitLoad(op);
      return;
    case OperationKind::kVerify:
      AdmitVerify(op);
      return;
    case OperationKind::kUnspecified:
      break;
  }
}

Topology OperationTracker::MakeTopology() const {
  Topology topology;
  std::map<std::string, int32_t> nodes;
  for (const std::unique_ptr<Agent>& agent : d_.agents.agents()) {
    const bool there =
        agent != nullptr && !agent->lost && agent->incarnation != Incarnation();
    topology.node_of_rank.push_back(
        there ? nodes
                    .try_emplace(agent->MemoryNode(),
                                 static_cast<int32_t>(nodes.size()))
                    .first->second
              : -1);
  }
  return topology;
}

void OperationTracker::OnPlanReady(const PlanReadyEvent& event) {
  Operation* op = FindRunning(event.operation);
  if (op == nullptr || op->phase != OperationPhase::kPlanning ||
      op->plan != nullptr) {
    return;  // it has ended meanwhile
  }
  if (!event.plan.ok()) {
    Fail(*op, event.plan.status());
    return;
  }
  op->plan = CutPlan(*event.plan, op->plan_ranks);
  if (!op->plan_key.empty()) plans_.Put(op->plan_key, op->plan);
  if (op->kind == OperationKind::kSync) {
    AdmitSync(*op);  // what it read may have changed: binds again
  } else {
    PlanReady(*op);
  }
}

void OperationTracker::PlanReady(Operation& op) {
  op.bytes_total = op.plan->bytes;
  if (op.plan_only) {
    PlanReply reply;
    reply.plan = op.plan->plan;
    for (const std::unique_ptr<Agent>& agent : d_.agents.agents()) {
      reply.agent_of_rank.push_back(agent == nullptr ? "" : agent->name);
    }
    reply.casts = op.casts;
    reply.warnings = op.warnings;
    op.Enter(OperationPhase::kDone, d_.context.now);
    for (const CallId call : op.callers) d_.context.ReplyOk(call, reply);
    Finished(op);
    return;
  }
  absl::Status status = SetParticipants(op);
  if (status.ok()) status = CheckSampleMemory(op);
  if (!status.ok()) {
    Fail(op, status);
    return;
  }
  op.waits_for_staging = true;
  Wake();
}

absl::Status OperationTracker::SetParticipants(Operation& op) {
  std::set<Rank> ranks;
  for (const std::shared_ptr<const PlanPart>& part : op.plan->parts) {
    if (part->transfers.empty()) continue;
    for (const Transfer& transfer : part->transfers) {
      ranks.insert(transfer.source);
      ranks.insert(transfer.destination);
    }
  }
  // A member that receives nothing publishes the version all the same.
  for (const PlacementRef& ref : op.writes) {
    const Placement& placement = *d_.models.Find(ref);
    ranks.insert(placement.mesh.ranks.begin(), placement.mesh.ranks.end());
  }
  op.participants.clear();
  const Certificate& certificate = op.plan->plan.certificate;
  for (const Rank rank : ranks) {
    SLUICE_RETURN_IF_ERROR(d_.agents.CheckUsable(rank));
    const int64_t budget = d_.agents.Get(rank)->staging_bytes;
    const int64_t asked = op.options.staging_bytes;
    if (asked > budget) {
      return absl::ResourceExhaustedError(absl::StrCat(
          d_.agents.NameOf(rank), ": ", asked,
          " bytes of staging memory are asked for, it has ", budget));
    }
    Participant participant;
    participant.rank = rank;
    participant.part = op.plan->Part(rank);
    const int64_t crossing =
        BytesOn(certificate.bytes_in, rank, LinkClass::kBetweenNodes) +
        BytesOn(certificate.bytes_out, rank, LinkClass::kBetweenNodes);
    if (crossing > 0) {
      // Two buckets of all its bytes are as much as it can use.
      const int64_t useful = std::max(kMinStagingBytes, 2 * crossing);
      participant.staging_bytes = std::min(asked > 0 ? asked : budget, useful);
    }
    op.participants.push_back(std::move(participant));
  }
  return absl::OkStatus();
}

absl::Status OperationTracker::CheckSampleMemory(const Operation& op) const {
  if (op.kind != OperationKind::kRedistribute) return absl::OkStatus();
  for (const Participant& p : op.participants) {
    int64_t needed = 0;
    for (const Transfer& transfer : p.part->transfers) {
      if (transfer.destination == p.rank) needed += transfer.bytes;
    }
    const int64_t memory = d_.agents.Get(p.rank)->memory_bytes;
    const int64_t used =
        d_.models.ReservedBytes(p.rank) + d_.catalog.BytesOf(p.rank);
    if (needed <= memory - used) continue;
    return absl::ResourceExhaustedError(absl::StrCat(
        d_.agents.NameOf(p.rank), " needs ", needed, " bytes for samples, ",
        std::max<int64_t>(0, memory - used), " of ", memory, " are free"));
  }
  return absl::OkStatus();
}

void OperationTracker::TryReserveStaging() {
  // In order of ids: memory that an earlier operation waits for is not given
  // to a later one.
  std::set<Rank> wanted;
  for (auto& [id, op] : running_) {
    if (op->finished || !op->waits_for_staging) continue;
    bool fits = true;
    for (const Participant& p : op->participants) {
      if (p.staging_bytes == 0) continue;
      const Agent& agent = *d_.agents.Get(p.rank);
      fits = fits && !wanted.contains(p.rank) &&
             agent.StagingUsed() + p.staging_bytes <= agent.staging_bytes;
    }
    if (fits) {
      ReserveStaging(*op);
      continue;
    }
    for (const Participant& p : op->participants) {
      if (p.staging_bytes > 0) wanted.insert(p.rank);
    }
  }
}

void OperationTracker::ReserveStaging(Operation& op) {
  op.waits_for_staging = false;
  for (const Participant& p : op.participants) {
    d_.agents.HoldStaging(p.rank, op.id, p.staging_bytes);
  }
  Prepare(op);
}

}  // namespace sluice::coordinator
