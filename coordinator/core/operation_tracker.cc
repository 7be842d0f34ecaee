// Part of OperationTracker: requests, callers, and the end of operations.

#include "coordinator/core/operation_tracker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/overloaded.h"
#include "common/status_macros.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {
namespace {

constexpr size_t kMaxOperations = 1024;

OperationKind KindOf(const LoadRequest&) { return OperationKind::kLoad; }
OperationKind KindOf(const SyncRequest&) { return OperationKind::kSync; }
OperationKind KindOf(const RedistributeRequest&) {
  return OperationKind::kRedistribute;
}
OperationKind KindOf(const VerifyRequest&) { return OperationKind::kVerify; }

bool IsPlanOnly(const LoadRequest&) { return false; }
bool IsPlanOnly(const SyncRequest& request) { return request.plan_only; }
bool IsPlanOnly(const RedistributeRequest& request) {
  return request.plan_only;
}
bool IsPlanOnly(const VerifyRequest&) { return false; }

absl::Status CheckOptions(const OperationOptions& options) {
  for (const auto& [field, value, may_be_zero] :
       {std::tuple("deadline", options.deadline, false),
        std::tuple("wait_deadline", options.wait_deadline, true),
        std::tuple("progress_timeout", options.progress_timeout, false)}) {
    if (value > absl::ZeroDuration() ||
        (may_be_zero && value == absl::ZeroDuration())) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat(
        field, ": expected a time to wait, got ", absl::FormatDuration(value)));
  }
  if (options.staging_bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "staging_bytes: expected 0 or more, got ", options.staging_bytes));
  }
  if (options.staging_bytes != 0 &&
      options.staging_bytes < kSmallestBucketBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("staging_bytes: expected at least the smallest bucket, ",
                     kSmallestBucketBytes, ", got ", options.staging_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

template <typename Request>
void OperationTracker::StartAny(const Request& request) {
  if (absl::Status status = TryStart(request); !status.ok()) {
    d_.context.ReplyError(request.call, std::move(status));
  }
}

template void OperationTracker::StartAny(const LoadRequest&);
template void OperationTracker::StartAny(const SyncRequest&);
template void OperationTracker::StartAny(const RedistributeRequest&);
template void OperationTracker::StartAny(const VerifyRequest&);

template <typename Request>
absl::Status OperationTracker::TryStart(const Request& request) {
  const OperationOptions& options = request.options;
  const bool plan_only = IsPlanOnly(request);
  if (!plan_only) {
    SLUICE_ASSIGN_OR_RETURN(
        const Outcomes::Outcome* outcome,
        d_.outcomes.Find(options.request_id, options.fingerprint));
    if (outcome != nullptr) {
      AttachToOutcome(request.call, outcome->operation, KindOf(request),
                      *outcome);
      return absl::OkStatus();
    }
    if (!options.request_id.empty()) {
      SLUICE_RETURN_IF_ERROR(d_.outcomes.CheckRoom());
    }
  }
  SLUICE_RETURN_IF_ERROR(d_.agents.CheckRecovered());
  SLUICE_RETURN_IF_ERROR(CheckOptions(options));
  if (running_.size() >= kMaxOperations) {
    return absl::ResourceExhaustedError(
        absl::StrCat(running_.size(), " operations run or are queued, at most ",
                     kMaxOperations, " may be"));
  }
  auto op = std::make_unique<Operation>();
  op->kind = KindOf(request);
  op->options = options;
  op->plan_only = plan_only;
  SLUICE_RETURN_IF_ERROR(Check(request, *op));
  op->request = request;
  SLUICE_ASSIGN_OR_RETURN(const uint64_t id, d_.ids.Next());
  op->id = OperationId(id);
  op->callers.push_back(request.call);
  op->started = op->admitted = op->phase_since = d_.context.now;
  op->deadline = op->phase_deadline = d_.context.now + options.deadline;
  op->wait_until = d_.context.now + options.wait_deadline;
  if (!plan_only) {
    d_.outcomes.Begin(options.request_id, options.fingerprint, op->id);
  }
  Update(*op);
  running_[op->id] = std::move(op);
  Wake();
  return absl::OkStatus();
}

Operation* OperationTracker::FindRunning(OperationId id) {
  const auto it = running_.find(id);
  if (it == running_.end() || it->second->finished) return nullptr;
  return it->second.get();
}

void OperationTracker::AttachToOutcome(CallId call, OperationId id,
                                       OperationKind kind,
                                       const Outcomes::Outcome& outcome) {
  if (Operation* op = FindRunning(id); op != nullptr) {
    op->callers.push_back(call);
    d_.context.Emit(StreamUpdate{call, MakeUpdate(*op)});
    return;
  }
  if (!outcome.status.ok()) {
    d_.context.ReplyError(call, outcome.status);
    return;
  }
  OperationUpdate update;
  update.operation = id;
  update.kind = kind;
  update.phase = OperationPhase::kDone;
  update.result = outcome.result;
  d_.context.Emit(StreamUpdate{call, std::move(update)});
  d_.context.ReplyOk(call, StreamEnd{});
}

void OperationTracker::Cancel(const CancelRequest& request) {
  Operation* op = FindRunning(request.operation);
  if (op == nullptr) {
    d_.context.ReplyError(
        request.call, absl::NotFoundError(
                          absl::StrCat("operation ", request.operation.value(),
                                       " is unknown or has ended")));
    return;
  }
  d_.context.ReplyOk(request.call, CancelReply{});
  Fail(*op, absl::CancelledError("it was cancelled"));
}

void OperationTracker::CallerGone(CallId call) {
  for (auto& [id, op] : running_) {
    if (op->finished || std::erase(op->callers, call) == 0) continue;
    if (op->callers.empty() &&
        op->options.on_caller_loss != CallerLossPolicy::kDetach) {
      Fail(*op, absl::CancelledError("its caller is gone"));
    }
    return;
  }
}

std::string OperationTracker::Title(const Operation& op) const {
  return absl::StrCat(KindName(op.kind), " ", op.id.value(), " (",
                      op.description, ")");
}

std::vector<std::string> OperationTracker::WaitingFor(
    const Operation& op) const {
  std::vector<std::string> names;
  for (const Participant& p : op.participants) {
    bool done = true;
    switch (op.phase) {
      case OperationPhase::kPreparing:
        done = p.prepared;
        break;
      case OperationPhase::kExecuting:
        done = p.voted;
        break;
      case OperationPhase::kCommitting:
        done = p.confirmed || !op.decided;
        break;
      case OperationPhase::kAborting:
        done = p.stopped || !p.told;
        break;
      case OperationPhase::kUnspecified:
      case OperationPhase::kQueued:
      case OperationPhase::kPlanning:
      case OperationPhase::kDone:
      case OperationPhase::kFailed:
        break;
    }
    if (!done) names.push_back(d_.agents.Get(p.rank)->name);
  }
  return names;
}

OperationUpdate OperationTracker::MakeUpdate(const Operation& op) const {
  OperationUpdate update;
  update.operation = op.id;
  update.kind = op.kind;
  update.phase = op.phase;
  update.bytes_done = op.BytesDone();
  update.bytes_total = op.bytes_total;
  update.waiting_for = WaitingFor(op);
  return update;
}

void OperationTracker::Update(Operation& op) {
  if (op.plan_only) return;
  op.bytes_told = op.BytesDone();
  if (op.callers.empty()) return;
  const OperationUpdate update = MakeUpdate(op);
  for (const CallId call : op.callers) {
    d_.context.Emit(StreamUpdate{call, update});
  }
}

void OperationTracker::Enter(Operation& op, OperationPhase phase) {
  op.Enter(phase, d_.context.now);
  Update(op);
}

OperationResult OperationTracker::MakeResult(const Operation& op) const {
  OperationResult result;
  result.version = op.version;
  for (const Participant& p : op.participants) {
    for (size_t link = 0; link < kNumLinkClasses; ++link) {
      result.bytes[link] += p.stats.bytes[link];
      result.busy_seconds[link] += p.stats.seconds[link];
    }
    result.digest_bytes += p.stats.digest_bytes;
    result.digests_compared += p.stats.digests_compared;
    result.peak_staging_bytes =
        std::max(result.peak_staging_bytes, p.stats.peak_staging_bytes);
  }
  result.digests_compared += op.digests_compared;
  result.seconds = absl::ToDoubleSeconds(d_.context.now - op.admitted);
  result.phases = op.phases;
  if (op.phase != OperationPhase::kDone) {
    result.phases.emplace_back(
        op.phase, absl::ToDoubleSeconds(d_.context.now - op.phase_since));
  }
  if (op.plan != nullptr) {
    result.certificate = op.plan->plan.certificate;
    const size_t ranks = result.certificate.bytes_in.size();
    for (size_t rank = 0; rank < ranks; ++rank) {
      const Agent* agent = d_.agents.Get(Rank(static_cast<int32_t>(rank)));
      result.agent_of_rank.push_back(agent == nullptr ? "" : agent->name);
    }
  }
  result.plan_reused = op.plan_reused;
  return result;
}

void OperationTracker::FinishOk(Operation& op) {
  op.Enter(OperationPhase::kDone, d_.context.now);
  OperationUpdate update = MakeUpdate(op);
  update.result = MakeResult(op);
  // After its decision only: agents that have not confirmed in time.
  for (const Participant& p : op.participants) {
    if (op.decided && !p.confirmed) {
      update.waiting_for.push_back(d_.agents.Get(p.rank)->name);
    }
  }
  for (size_t link = 0; link < kNumLinkClasses; ++link) {
    total_bytes_[link] += update.result->bytes[link];
    total_seconds_[link] += update.result->busy_seconds[link];
  }
  for (const CallId call : op.callers) {
    d_.context.Emit(StreamUpdate{call, update});
    d_.context.ReplyOk(call, StreamEnd{});
  }
  if (!op.decided) {  // nothing was to be decided: the outcome is not durable
    d_.outcomes.Finish(d_.outcomes.MakeRecord(op.options.request_id,
                                              absl::OkStatus(), *update.result),
                       /*durable=*/false);
  }
  d_.log.Add(absl::StrCat(KindName(op.kind), "_done"), op.description,
             absl::StrCat(Title(op), " is done: version ", op.version.value(),
                          ", ", update.bytes_done, " bytes"));
  Finished(op);
}

void OperationTracker::FinishFailed(Operation& op) {
  op.Enter(OperationPhase::kFailed, d_.context.now);
  for (const CallId call : op.callers) {
    d_.context.ReplyError(call, op.failure);
  }
  if (!op.plan_only) {
    OutcomeRecord record =
        d_.outcomes.MakeRecord(op.options.request_id, op.failure);
    d_.outcomes.Finish(record, /*durable=*/true);
    if (!op.options.request_id.empty()) {
      d_.store.WriteUntilDone({std::move(record)});
    }
    d_.log.Add(absl::StrCat(KindName(op.kind), "_failed"), op.description,
               std::string(op.failure.message()));
  }
  Finished(op);
}

void OperationTracker::Finished(Operation& op) {
  op.finished = true;
  if (!op.group.members.empty()) {
    groups_.Return(std::move(op.group), /*well=*/op.failure.ok());
    op.group = {};
  }
  for (const Participant& p : op.participants) {
    // One that has not stopped still uses what it was given.
    if (!p.told || p.stopped || p.confirmed) {
      d_.agents.FreeStaging(p.rank, op.id);
    }
  }
  OperationInfo info;
  info.update = MakeUpdate(op);
  if (op.phase == OperationPhase::kDone) info.update.result = MakeResult(op);
  info.description = op.description;
  info.started = op.started;
  info.age = d_.context.now - op.started;
  info.error = std::string(op.failure.message());
  recent_.push_front(std::move(info));
  while (static_cast<int64_t>(recent_.size()) >
         d_.context.options.max_kept_operations) {
    recent_.pop_back();
  }
  Wake();
}

void OperationTracker::Reap() {
  std::erase_if(running_,
                [](const auto& entry) { return entry.second->finished; });
}

bool OperationTracker::Uses(const PlacementRef& ref) const {
  const PlacementName name{ref.model, ref.placement};
  const auto contains = [&name](const std::vector<PlacementName>& names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  return std::any_of(running_.begin(), running_.end(), [&](const auto& entry) {
    return !entry.second->finished && (contains(entry.second->claims.reads) ||
                                       contains(entry.second->claims.writes));
  });
}

OperationId OperationTracker::UserOf(Catalog::EntryId entry) const {
  for (const auto& [id, op] : running_) {
    if (!op->finished && op->claims.entries.contains(entry)) return id;
  }
  return OperationId();
}

std::vector<OperationInfo> OperationTracker::Describe() const {
  std::vector<OperationInfo> infos;
  for (const auto& [id, op] : running_) {
    if (op->finished) continue;
    OperationInfo info;
    info.update = MakeUpdate(*op);
    info.description = op->description;
    info.started = op->started;
    info.age = d_.context.now - op->started;
    info.error = std::string(op->failure.message());
    infos.push_back(std::move(info));
  }
  std::reverse(infos.begin(), infos.end());
  infos.insert(infos.end(), recent_.begin(), recent_.end());
  return infos;
}

}  // namespace sluice::coordinator
