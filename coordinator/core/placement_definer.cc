#include "coordinator/core/placement_definer.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "coordinator/core/agent_casts.h"

namespace sluice::coordinator {
namespace {

constexpr size_t kMaxModelNameBytes = 256;
constexpr size_t kMaxPlacementNameBytes = 128;

absl::Status CheckName(absl::string_view what, const std::string& name,
                       size_t most) {
  if (!name.empty() && name.size() <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, ": expected 1 to ", most,
                                                 " bytes, got ", name.size()));
}

}  // namespace

// --- models ------------------------------------------------------------------

void PlacementDefiner::RegisterModel(const RegisterModelRequest& request) {
  if (absl::Status status = TryRegisterModel(request); !status.ok()) {
    d_.context.ReplyError(request.call, std::move(status));
  }
}

absl::Status PlacementDefiner::TryRegisterModel(
    const RegisterModelRequest& request) {
  SLUICE_ASSIGN_OR_RETURN(
      const Outcomes::Outcome* outcome,
      d_.outcomes.Find(request.request_id, request.fingerprint));
  const std::string& name = request.model.name;
  if (outcome != nullptr && outcome->finished) {
    d_.context.ReplyOk(request.call,
                       RegisterModelReply{request.model.num_bytes()});
    return outcome->status;
  }
  SLUICE_RETURN_IF_ERROR(CheckName("model name", name, kMaxModelNameBytes));
  SLUICE_RETURN_IF_ERROR(request.model.Validate());
  const auto pending = models_pending_.find(name);
  const ModelSpec* known = nullptr;
  if (const absl::StatusOr<Model*> model = d_.models.FindModel(name);
      model.ok()) {
    known = (*model)->spec.get();
  } else if (pending != models_pending_.end()) {
    known = &pending->second.spec;
  }
  if (known != nullptr && *known != request.model) {
    return absl::AlreadyExistsError(absl::StrCat(
        "model \"", name, "\" is declared already and differs: it has ",
        known->tensors.size(), " tensors of ", known->num_bytes(),
        " bytes, asked for are ", request.model.tensors.size(), " of ",
        request.model.num_bytes()));
  }
  if (pending != models_pending_.end()) {
    pending->second.calls.push_back(request.call);
    return absl::OkStatus();
  }
  if (known != nullptr) {
    d_.context.ReplyOk(request.call, RegisterModelReply{known->num_bytes()});
    return absl::OkStatus();
  }
  SLUICE_RETURN_IF_ERROR(d_.outcomes.CheckRoom());
  models_pending_[name] = {request.model, {request.call}};
  d_.outcomes.Begin(request.request_id, request.fingerprint, OperationId());
  OutcomeRecord record =
      d_.outcomes.MakeRecord(request.request_id, absl::OkStatus());
  std::vector<Record> records = {ModelRecord{request.model, Version()}};
  if (!request.request_id.empty()) records.push_back(record);
  d_.store.Write(std::move(records),
                 [this, name, record](const absl::Status& status) {
                   OnModelWritten(name, record, status);
                 });
  return absl::OkStatus();
}

void PlacementDefiner::OnModelWritten(const std::string& name,
                                      const OutcomeRecord& outcome,
                                      const absl::Status& status) {
  const PendingModel done = std::move(models_pending_.at(name));
  models_pending_.erase(name);
  if (status.ok()) {
    d_.outcomes.Finish(outcome, /*durable=*/true);
    d_.models.AddModel(std::make_shared<const ModelSpec>(done.spec), Version());
    d_.log.Add("model_declared", name,
               absl::StrCat(done.spec.tensors.size(), " tensors, ",
                            done.spec.num_bytes(), " bytes"));
  } else {
    d_.outcomes.Forget(outcome.request_id);
  }
  for (const CallId call : done.calls) {
    if (status.ok()) {
      d_.context.ReplyOk(call, RegisterModelReply{done.spec.num_bytes()});
    } else {
      d_.context.ReplyError(call, status);
    }
  }
}

// --- placements: declaring ---------------------------------------------------

bool PlacementDefiner::IsSame(const Placement& placement,
                              const RegisterPlacementRequest& request) {
  return placement.mesh.axes == request.axes &&
         placement.agents == request.agents &&
         *placement.layout == request.layout &&
         placement.storage == request.storage;
}

RegisterPlacementReply PlacementDefiner::ReplyFor(const Placement& placement) {
  return RegisterPlacementReply{placement.bytes, placement.num_replicas};
}

PlacementDefiner::PendingPlacement* PlacementDefiner::FindPending(
    const PlacementRef& ref) {
  const auto it = placements_pending_.find({ref.model, ref.placement});
  if (it == placements_pending_.end() || it->second.placement.ref != ref) {
    return nullptr;
  }
  return &it->second;
}

absl::StatusOr<Mesh> PlacementDefiner::MakeMesh(
    const RegisterPlacementRequest& request) {
  Mesh mesh;
  mesh.axes = request.axes;
  int64_t product = 1;
  for (const MeshAxis& axis : mesh.axes) {
    // Saturates: Validate() names what is wrong with the axes themselves.
    product = axis.size > 0 && product <= 65536 ? product * axis.size : product;
  }
  if (product != static_cast<int64_t>(request.agents.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("mesh ", mesh.ToString(), ": expected ", product,
                     " agents, got ", request.agents.size()));
  }
  for (const std::string& name : request.agents) {
    const Agent* agent = d_.agents.Find(name);
    if (agent == nullptr) {
      return absl::NotFoundError(
          absl::StrCat("agent \"", name, "\" is unknown"));
    }
    mesh.ranks.push_back(agent->rank);
  }
  SLUICE_RETURN_IF_ERROR(mesh.Validate());
  for (const Rank rank : mesh.ranks) {
    const absl::Status usable = d_.agents.CheckUsable(rank);
    if (!usable.ok()) return absl::UnavailableError(usable.message());
  }
  return mesh;
}

int64_t PlacementDefiner::FreeMemory(Rank rank) const {
  int64_t free = d_.agents.Get(rank)->memory_bytes -
                 d_.models.ReservedBytes(rank) - d_.catalog.BytesOf(rank);
  for (const auto& [name, pending] : placements_pending_) {
    const int64_t index = pending.placement.IndexOf(rank);
    if (index < 0) continue;
    free -= pending.placement.CopiesReserved() *
            pending.placement.bytes[static_cast<size_t>(index)];
  }
  return std::max<int64_t>(0, free);
}

absl::Status PlacementDefiner::CheckMemory(const Placement& placement) const {
  for (size_t i = 0; i < placement.bytes.size(); ++i) {
    const Rank rank = placement.mesh.ranks[i];
    const int64_t needed = placement.CopiesReserved() * placement.bytes[i];
    const int64_t free = FreeMemory(rank);
    if (needed <= free) continue;
    return absl::ResourceExhaustedError(absl::StrCat(
        "placement \"", placement.Name(), "\" needs ", needed, " bytes (",
        placement.CopiesReserved(), " copies of ", placement.bytes[i], ") on ",
        d_.agents.NameOf(rank), ", ", free, " of ",
        d_.agents.Get(rank)->memory_bytes, " are free"));
  }
  return absl::OkStatus();
}

void PlacementDefiner::RegisterPlacement(
    const RegisterPlacementRequest& request) {
  if (absl::Status status = TryRegisterPlacement(request); !status.ok()) {
    d_.context.ReplyError(request.call, std::move(status));
  }
}

absl::Status PlacementDefiner::TryRegisterPlacement(
    const RegisterPlacementRequest& request) {
  SLUICE_RETURN_IF_ERROR(
      d_.outcomes.Find(request.request_id, request.fingerprint));
  SLUICE_RETURN_IF_ERROR(
      CheckName("placement name", request.placement, kMaxPlacementNameBytes));
  SLUICE_ASSIGN_OR_RETURN(const Model* model,
                          d_.models.FindModel(request.model));
  // Declaring the same again is no error: that answers retries, too.
  const auto pending =
      placements_pending_.find({request.model, request.placement});
  const auto known = model->placements.find(request.placement);
  const Placement* taken = known != model->placements.end() ? &known->second
                           : pending != placements_pending_.end()
                               ? &pending->second.placement
                               : nullptr;
  if (taken != nullptr && !IsSame(*taken, request)) {
    return absl::AlreadyExistsError(absl::StrCat(
        "placement \"", taken->Name(),
        "\" is declared already and differs: it has mesh ",
        taken->mesh.ToString(), ", layout \"", taken->layout->name, "\""));
  }
  if (known != model->placements.end()) {
    d_.context.ReplyOk(request.call, ReplyFor(known->second));
    return absl::OkStatus();
  }
  if (taken != nullptr) {
    pending->second.calls.push_back(request.call);
    return absl::OkStatus();
  }
  return Define(request, *model);
}

absl::Status PlacementDefiner::Define(const RegisterPlacementRequest& request,
                                      const Model& model) {
  SLUICE_RETURN_IF_ERROR(d_.outcomes.CheckRoom());
  SLUICE_ASSIGN_OR_RETURN(Mesh mesh, MakeMesh(request));
  SLUICE_ASSIGN_OR_RETURN(const uint64_t generation, d_.ids.Next());
  PendingPlacement made;
  SLUICE_ASSIGN_OR_RETURN(
      made.placement,
      MakePlacement({request.model, request.placement, generation}, model.spec,
                    request.layout, std::move(mesh), request.agents,
                    request.storage));
  SLUICE_RETURN_IF_ERROR(
      CheckCasts(*model.spec, *made.placement.layout, made.placement.mesh));
  SLUICE_RETURN_IF_ERROR(CheckMemory(made.placement));
  made.calls = {request.call};
  made.request_id = request.request_id;
  made.deadline = d_.context.now + d_.context.options.command_timeout;
  d_.outcomes.Begin(request.request_id, request.fingerprint, OperationId());
  for (size_t i = 0; i < made.placement.members.size(); ++i) {
    const Rank rank = made.placement.mesh.ranks[i];
    made.unanswered.insert(rank);
    d_.agents.Send(rank, DefinePlacementCommand{made.placement.DefinitionFor(
                             static_cast<int64_t>(i))});
  }
  placements_pending_.emplace(Name(request.model, request.placement),
                              std::move(made));
  return absl::OkStatus();
}

void PlacementDefiner::OnDefined(Rank rank, const PlacementRef& ref,
                                 const absl::Status& outcome) {
  PendingPlacement* pending = FindPending(ref);
  if (pending == nullptr) {
    Placement* placement = d_.models.Find(ref);
    PlacementMember* member =
        placement == nullptr ? nullptr : placement->Member(rank);
    if (member == nullptr) return;
    member->define_error = outcome;
    if (outcome.ok()) {
      member->bytes =
          placement->CopiesReserved() *
          placement->bytes[static_cast<size_t>(placement->IndexOf(rank))];
    } else {
      d_.log.Add("placement_not_defined", d_.agents.Get(rank)->name,
                 absl::StrCat("placement \"", placement->Name(),
                              "\": ", outcome.message()));
    }
    return;
  }
  if (!outcome.ok()) {
    Abandon(ref, Annotate(outcome, d_.agents.NameOf(rank)));
    return;
  }
  pending->unanswered.erase(rank);
  if (pending->unanswered.empty() && !pending->writing) Write(*pending);
}

void PlacementDefiner::Write(PendingPlacement& pending) {
  pending.writing = true;
  const Placement& p = pending.placement;
  OutcomeRecord outcome =
      d_.outcomes.MakeRecord(pending.request_id, absl::OkStatus());
  std::vector<Record> records = {
      PlacementRecord{p.ref, p.mesh, p.agents, *p.layout, p.storage, false}};
  if (!pending.request_id.empty()) records.push_back(outcome);
  d_.store.Write(std::move(records),
                 [this, ref = p.ref, outcome](const absl::Status& status) {
                   OnWritten(ref, status, outcome);
                 });
}

void PlacementDefiner::OnWritten(const PlacementRef& ref,
                                 const absl::Status& status,
                                 const OutcomeRecord& outcome) {
  if (!status.ok()) {
    Abandon(ref, status);
    return;
  }
  const auto it = placements_pending_.find({ref.model, ref.placement});
  PendingPlacement done = std::move(it->second);
  placements_pending_.erase(it);
  d_.outcomes.Finish(outcome, /*durable=*/true);
  d_.log.Add("placement_declared", done.placement.Name(),
             absl::StrCat("mesh ", done.placement.mesh.ToString(),
                          ", layout \"", done.placement.layout->name, "\""));
  for (const CallId call : done.calls) {
    d_.context.ReplyOk(call, ReplyFor(done.placement));
  }
  for (size_t i = 0; i < done.placement.members.size(); ++i) {
    PlacementMember& member = done.placement.members[i];
    member.bytes = done.placement.CopiesReserved() * done.placement.bytes[i];
    if (!done.tell_again.contains(member.rank)) continue;
    d_.agents.Send(member.rank,
                   DefinePlacementCommand{
                       done.placement.DefinitionFor(static_cast<int64_t>(i))});
  }
  d_.models.AddPlacement(std::move(done.placement));
}

// Has everybody forget it who was told.
void PlacementDefiner::Abandon(const PlacementRef& ref,
                               const absl::Status& status) {
  const auto it = placements_pending_.find({ref.model, ref.placement});
  const PendingPlacement done = std::move(it->second);
  placements_pending_.erase(it);
  for (const Rank rank : done.placement.mesh.ranks) {
    d_.agents.Send(rank, RemovePlacementCommand{done.placement.ref});
  }
  d_.outcomes.Forget(done.request_id);
  for (const CallId call : done.calls) {
    d_.context.ReplyError(
        call, Annotate(status, absl::StrCat("placement \"",
                                            done.placement.Name(), "\"")));
  }
}

// --- placements: removing ----------------------------------------------------

void PlacementDefiner::RemovePlacement(const RemovePlacementRequest& request) {
  if (absl::Status status = TryRemovePlacement(request); !status.ok()) {
    d_.context.ReplyError(request.call, std::move(status));
  }
}

absl::Status PlacementDefiner::TryRemovePlacement(
    const RemovePlacementRequest& request) {
  SLUICE_ASSIGN_OR_RETURN(
      const Outcomes::Outcome* outcome,
      d_.outcomes.Find(request.request_id, request.fingerprint));
  if (outcome != nullptr && outcome->finished) {
    d_.context.ReplyOk(request.call, RemovePlacementReply{});
    return absl::OkStatus();
  }
  SLUICE_ASSIGN_OR_RETURN(
      const Placement* placement,
      d_.models.FindPlacement(request.model, request.placement));
  if (d_.operations.Uses(placement->ref)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "placement \"", placement->Name(), "\": an operation uses it"));
  }
  SLUICE_RETURN_IF_ERROR(d_.outcomes.CheckRoom());
  PlacementRecord record;
  record.ref = placement->ref;
  record.removed = true;
  d_.outcomes.Begin(request.request_id, request.fingerprint, OperationId());
  const OutcomeRecord finished =
      d_.outcomes.MakeRecord(request.request_id, absl::OkStatus());
  std::vector<Record> records = {record};
  if (!request.request_id.empty()) records.push_back(finished);
  // From here on it is gone for new operations; kept to be put back if the
  // record cannot be written.
  auto kept = std::make_shared<Placement>(*placement);
  d_.models.RemovePlacement(record.ref);
  d_.store.Write(
      std::move(records),
      [this, kept, finished, call = request.call](const absl::Status& status) {
        if (!status.ok()) {
          d_.models.AddPlacement(std::move(*kept));
          d_.outcomes.Forget(finished.request_id);
          d_.context.ReplyError(call, status);
          return;
        }
        d_.outcomes.Finish(finished, /*durable=*/true);
        d_.log.Add("placement_removed", kept->Name(), "its memory is freed");
        for (const Rank rank : kept->mesh.ranks) {
          d_.agents.Send(rank, RemovePlacementCommand{kept->ref});
        }
        d_.context.ReplyOk(call, RemovePlacementReply{});
      });
  return absl::OkStatus();
}

// --- members that come and go ------------------------------------------------

std::vector<Placement*> PlacementDefiner::OnInventory(
    Rank rank, const std::vector<PlacementInventory>& inventory) {
  const CommandOutbox& outbox = d_.agents.Get(rank)->outbox;
  const auto is_under_way = [&outbox]<typename C>(const PlacementRef& ref,
                                                  const C&) {
    return outbox.Has<C>([&ref](const C& command) {
      if constexpr (std::is_same_v<C, DefinePlacementCommand>) {
        return command.definition.ref == ref;
      } else {
        return command.placement == ref;
      }
    });
  };
  std::set<PlacementRef> held;
  std::vector<Placement*> placements;
  for (const PlacementInventory& one : inventory) {
    held.insert(one.placement);
    Placement* placement = d_.models.Find(one.placement);
    if (placement != nullptr && placement->Member(rank) != nullptr) {
      d_.models.SetInventory(*placement, rank, one);
      placements.push_back(placement);
    } else if (FindPending(one.placement) == nullptr &&
               !is_under_way(one.placement, RemovePlacementCommand{})) {
      d_.agents.Send(rank, RemovePlacementCommand{one.placement});
    }
  }
  for (Placement* placement : d_.models.PlacementsOf(rank)) {
    if (held.contains(placement->ref)) continue;
    PlacementMember& member = *placement->Member(rank);
    member = PlacementMember{};
    member.rank = rank;
    if (is_under_way(placement->ref, DefinePlacementCommand{})) continue;
    d_.agents.Send(rank, DefinePlacementCommand{placement->DefinitionFor(
                             placement->IndexOf(rank))});
  }
  return placements;
}

void PlacementDefiner::OnMembershipChange(const MembershipChange& change) {
  std::vector<PlacementRef> broken;
  for (auto& [name, pending] : placements_pending_) {
    if (pending.unanswered.contains(change.rank)) {
      broken.push_back(pending.placement.ref);
    } else if (change.kind != MembershipChange::Kind::kConnectionLost &&
               pending.placement.IndexOf(change.rank) >= 0) {
      pending.tell_again.insert(change.rank);
    }
  }
  for (const PlacementRef& ref : broken) {
    Abandon(ref,
            absl::UnavailableError(absl::StrCat(d_.agents.NameOf(change.rank),
                                                " was lost: ", change.reason)));
  }
}

void PlacementDefiner::Tick() {
  std::vector<PlacementRef> late;
  for (const auto& [name, pending] : placements_pending_) {
    if (!pending.writing && d_.context.now >= pending.deadline) {
      late.push_back(pending.placement.ref);
    }
  }
  for (const PlacementRef& ref : late) {
    std::vector<std::string> names;
    for (const Rank rank : FindPending(ref)->unanswered) {
      names.push_back(d_.agents.Get(rank)->name);
    }
    Abandon(ref, absl::UnavailableError(absl::StrCat(
                     "not answered by agents ", absl::StrJoin(names, ", "))));
  }
}

}  // namespace sluice::coordinator
