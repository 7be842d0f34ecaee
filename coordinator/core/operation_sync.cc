// Part of OperationTracker: what a sync needs before it is planned.

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "coordinator/core/operation_tracker.h"
#include "coordinator/planner/casts.h"
#include "coordinator/planner/quantisation.h"

namespace sluice::coordinator {
namespace {

// How often a plan is made anew because its source changed meanwhile.
constexpr int32_t kMaxReplans = 3;

absl::Status CheckDestinationName(const SyncRequest& request,
                                  const std::string& name,
                                  std::set<std::string>& seen) {
  if (name == request.source) {
    return absl::InvalidArgumentError(absl::StrCat(
        "placement \"", name, "\" is source and destination at once"));
  }
  if (!seen.insert(name).second) {
    return absl::InvalidArgumentError(
        absl::StrCat("placement \"", name, "\" is a destination twice"));
  }
  return absl::OkStatus();
}

PlacementGeometry GeometryOf(const Placement& placement) {
  return PlacementGeometry{placement.ref.placement, placement.layout,
                           placement.mesh};
}

// For people who look at a plan before it is carried out.
absl::Status NotePlan(Operation& op, const ReshardInput& input) {
  SLUICE_ASSIGN_OR_RETURN(op.casts, CastsOf(input));
  SLUICE_ASSIGN_OR_RETURN(op.warnings, QuantisationWarnings(input));
  return absl::OkStatus();
}

}  // namespace

absl::Status OperationTracker::CheckMembers(const Placement& placement) const {
  for (const PlacementMember& member : placement.members) {
    SLUICE_RETURN_IF_ERROR(
        Annotate(d_.agents.CheckUsable(member.rank),
                 absl::StrCat("placement \"", placement.Name(), "\"")));
    if (member.define_error.ok()) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "placement \"", placement.Name(), "\" is not defined on ",
        d_.agents.NameOf(member.rank), ": ", member.define_error.message()));
  }
  return absl::OkStatus();
}

OperationTracker::SourceChoice OperationTracker::ChooseSource(
    const Placement& source) const {
  SourceChoice choice;
  const Version newest = source.NewestComplete();
  absl::Status unusable;
  for (int64_t r = 0; r < source.num_replicas; ++r) {
    if (newest == Version() || source.ReplicaVersion(r) != newest) continue;
    absl::Status status;
    for (const Rank rank : source.RanksOfReplica(r)) {
      if (status.ok()) status = d_.agents.CheckUsable(rank);
    }
    if (status.ok()) {
      choice.replicas.push_back(r);
    } else if (unusable.ok()) {
      unusable = status;
    }
  }
  const std::string name =
      absl::StrCat("source placement \"", source.Name(), "\"");
  if (!choice.replicas.empty()) {
    choice.version = newest;
  } else if (!unusable.ok()) {
    choice.error = Annotate(unusable, name);
  } else {
    std::vector<std::string> exceptions;
    const PlacementStatus status =
        DescribePlacement(source, [this](Rank rank) -> std::string {
          return d_.agents.Get(rank)->lost ? "lost" : "";
        });
    for (const ReplicaStatus& replica : status.replicas) {
      exceptions.insert(exceptions.end(), replica.exceptions.begin(),
                        replica.exceptions.end());
    }
    choice.pending = source.BeingWritten();
    choice.error = absl::FailedPreconditionError(absl::StrCat(
        name, " has no complete version; ", absl::StrJoin(exceptions, "; ")));
  }
  return choice;
}

absl::Status OperationTracker::Check(const SyncRequest& request,
                                     Operation& op) {
  SLUICE_ASSIGN_OR_RETURN(
      const Placement* source,
      d_.models.FindPlacement(request.model, request.source));
  if (request.destinations.empty()) {
    return absl::InvalidArgumentError("destinations: expected at least one");
  }
  op.source = source->ref;
  op.pattern = request.pattern;
  std::set<std::string> seen;
  for (const std::string& name : request.destinations) {
    SLUICE_RETURN_IF_ERROR(CheckDestinationName(request, name, seen));
    SLUICE_ASSIGN_OR_RETURN(const Placement* destination,
                            d_.models.FindPlacement(request.model, name));
    SLUICE_RETURN_IF_ERROR(CheckMembers(*destination));
    if (destination->storage == Storage::kLent) {
      return absl::FailedPreconditionError(absl::StrCat(
          "placement \"", destination->Name(),
          "\" is in memory that workers lend, one copy; a sync needs two "
          "(storage ARENA or HOST_ARENA)"));
    }
    op.writes.push_back(destination->ref);
    if (!op.plan_only) op.claims.writes.emplace_back(request.model, name);
  }
  if (!op.plan_only)
    op.claims.reads.emplace_back(request.model, request.source);
  op.description = absl::StrCat(request.model, ": ", request.source, " -> ",
                                absl::StrJoin(request.destinations, ", "));
  if (op.pattern == Pattern::kTwoStage) op.description += " (TWO_STAGE)";
  const SourceChoice choice = ChooseSource(*source);
  // A source that operations before it or a writer may complete is waited for.
  const bool is_filled =
      std::any_of(running_.begin(), running_.end(), [&](const auto& entry) {
        Claims reads;
        reads.reads = {{request.model, request.source}};
        return !entry.second->finished &&
               entry.second->claims.ConflictsWith(reads);
      });
  if (choice.replicas.empty() && !choice.pending && !is_filled) {
    return choice.error;
  }
  return absl::OkStatus();
}

// The newest version may be gone from the source, with a worker's memory: its
// next best is not what the readers of the destination wait for.
absl::Status OperationTracker::CheckNoWayBack(const Placement& destination,
                                              const Placement& source,
                                              Version version) const {
  for (const PlacementMember& member : destination.members) {
    if (member.copy.state != CopyState::kPublished ||
        member.copy.version <= version) {
      continue;
    }
    return absl::FailedPreconditionError(absl::StrCat(
        "destination placement \"", destination.Name(), "\" holds version ",
        member.copy.version.value(), " on ", d_.agents.NameOf(member.rank),
        "; the newest complete one of source placement \"", source.Name(),
        "\" is ", version.value(),
        ", and a sync does not go back: write or load the source first"));
  }
  return absl::OkStatus();
}

// Fixes version, replicas and key, and says what is to be planned.
absl::Status OperationTracker::BindSync(Operation& op, ReshardInput* input,
                                        bool* pending) {
  for (const PlacementRef& ref : op.writes) {
    if (d_.models.Find(ref) != nullptr &&
        d_.models.Find(op.source) != nullptr) {
      continue;
    }
    return absl::NotFoundError(absl::StrCat("placement \"", ref.placement,
                                            "\" or \"", op.source.placement,
                                            "\" was removed meanwhile"));
  }
  const Placement& source = *d_.models.Find(op.source);
  const SourceChoice choice = ChooseSource(source);
  *pending = choice.pending;
  if (choice.replicas.empty()) return choice.error;
  op.version = choice.version;
  input->model = source.spec;
  input->source = GeometryOf(source);
  input->source_replicas = choice.replicas;
  for (const PlacementRef& ref : op.writes) {
    const Placement& destination = *d_.models.Find(ref);
    SLUICE_RETURN_IF_ERROR(CheckMembers(destination));
    SLUICE_RETURN_IF_ERROR(CheckNoWayBack(destination, source, op.version));
    input->destinations.push_back(GeometryOf(destination));
  }
  input->pattern = op.pattern;
  input->topology = MakeTopology();
  return absl::OkStatus();
}

// Everything the plan depends on: generations name the geometry.
std::string OperationTracker::SyncKey(const Operation& op,
                                      const ReshardInput& input) const {
  std::string key = absl::StrCat(op.source.model, "\n", op.source.placement,
                                 "@", op.source.generation, "\npattern ",
                                 static_cast<int>(input.pattern), "\nreplicas ",
                                 absl::StrJoin(input.source_replicas, ","));
  std::set<Rank> ranks(input.source.mesh.ranks.begin(),
                       input.source.mesh.ranks.end());
  for (size_t i = 0; i < op.writes.size(); ++i) {
    absl::StrAppend(&key, "\n", op.writes[i].placement, "@",
                    op.writes[i].generation);
    const std::vector<Rank>& more = input.destinations[i].mesh.ranks;
    ranks.insert(more.begin(), more.end());
  }
  for (const Rank rank : ranks) {
    const Agent& agent = *d_.agents.Get(rank);
    absl::StrAppend(&key, "\n", rank.value(), " ",
                    agent.lost ? "" : agent.MemoryNode());
  }
  return key;
}

void OperationTracker::AdmitSync(Operation& op) {
  ReshardInput input;
  bool pending = false;
  if (absl::Status status = BindSync(op, &input, &pending); !status.ok()) {
    const bool may_wait = pending && op.phase == OperationPhase::kQueued &&
                          d_.context.now < op.wait_until;
    if (!may_wait) Fail(op, status);
    return;
  }
  if (op.plan_only) {
    if (absl::Status status = NotePlan(op, input); !status.ok()) {
      Fail(op, status);
      return;
    }
  }
  std::string key = SyncKey(op, input);
  if (op.plan != nullptr && key == op.plan_key) {  // made for this
    PlanReady(op);
    return;
  }
  op.plan_key = std::move(key);
  op.plan = plans_.Find(op.plan_key);
  if (op.plan != nullptr) {
    op.plan_reused = true;
    PlanReady(op);
    return;
  }
  if (++op.replans > kMaxReplans) {
    Fail(op, absl::AbortedError(
                 absl::StrCat("its source changed ", kMaxReplans,
                              " times while it was planned; try again")));
    return;
  }
  op.plan_ranks = input.topology.num_ranks();
  if (op.phase != OperationPhase::kPlanning) {
    Enter(op, OperationPhase::kPlanning);
  }
  d_.context.Emit(MakePlan{op.id, std::move(input)});
}

}  // namespace sluice::coordinator
