#include "coordinator/core/model_registry.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

constexpr size_t kKeptSteps = 16;

}  // namespace

void ModelRegistry::AddModel(std::shared_ptr<const ModelSpec> spec,
                             Version last_version) {
  const std::string name = spec->name;
  Model& model = models_[name];
  model.spec = std::move(spec);
  model.last_version = std::max(model.last_version, last_version);
}

void ModelRegistry::AddPlacement(Placement placement) {
  const auto model = models_.find(placement.ref.model);
  SLUICE_CHECK(model != models_.end()) << "model " << placement.ref.model;
  const std::string name = placement.ref.placement;
  model->second.placements.insert_or_assign(name, std::move(placement));
}

void ModelRegistry::RemovePlacement(const PlacementRef& ref) {
  if (Find(ref) == nullptr) return;
  models_.find(ref.model)->second.placements.erase(ref.placement);
}

void ModelRegistry::Restore(const VersionRecord& record) {
  const auto it = models_.find(record.model);
  if (it == models_.end()) return;
  Model& model = it->second;
  model.last_version = std::max(model.last_version, record.version);
  const auto placement = model.placements.find(record.placement);
  if (placement == model.placements.end() || record.step == 0) return;
  std::map<int64_t, StepVersion>& steps = placement->second.steps;
  StepVersion& step = steps[record.step];
  step.version = std::max(step.version, record.version);
  step.durable = true;
  // Only the newest matter: the oldest versions go first.
  while (steps.size() > kKeptSteps) {
    steps.erase(std::min_element(steps.begin(), steps.end(),
                                 [](const auto& a, const auto& b) {
                                   return a.second.version < b.second.version;
                                 }));
  }
}

absl::StatusOr<Model*> ModelRegistry::FindModel(absl::string_view model) {
  const auto it = models_.find(std::string(model));
  if (it != models_.end()) return &it->second;
  return absl::NotFoundError(absl::StrCat("model \"", model, "\" is unknown"));
}

absl::StatusOr<Placement*> ModelRegistry::FindPlacement(
    absl::string_view model, absl::string_view placement) {
  SLUICE_ASSIGN_OR_RETURN(Model * found, FindModel(model));
  const auto it = found->placements.find(std::string(placement));
  if (it != found->placements.end()) return &it->second;
  return absl::NotFoundError(absl::StrCat("model \"", model, "\": placement \"",
                                          placement, "\" is unknown"));
}

Placement* ModelRegistry::Find(const PlacementRef& ref) {
  absl::StatusOr<Placement*> placement =
      FindPlacement(ref.model, ref.placement);
  if (!placement.ok() || (*placement)->ref != ref) return nullptr;
  return *placement;
}

std::vector<Placement*> ModelRegistry::PlacementsOf(Rank rank) {
  std::vector<Placement*> found;
  for (auto& [model_name, model] : models_) {
    for (auto& [name, placement] : model.placements) {
      if (placement.IndexOf(rank) >= 0) found.push_back(&placement);
    }
  }
  return found;
}

int64_t ModelRegistry::ReservedBytes(Rank rank) const {
  int64_t bytes = 0;
  for (const auto& [model_name, model] : models_) {
    for (const auto& [name, placement] : model.placements) {
      const int64_t index = placement.IndexOf(rank);
      if (index < 0) continue;
      bytes += placement.CopiesReserved() *
               placement.bytes[static_cast<size_t>(index)];
    }
  }
  return bytes;
}

Version ModelRegistry::NewVersion(const std::string& name) {
  Model& model = models_.find(name)->second;
  model.last_version = Version(model.last_version.value() + 1);
  return model.last_version;
}

void ModelRegistry::ForgetAgent(Rank rank) {
  for (Placement* placement : PlacementsOf(rank)) {
    PlacementMember& member = *placement->Member(rank);
    member = PlacementMember{};
    member.rank = rank;
  }
}

void ModelRegistry::SetInventory(Placement& placement, Rank rank,
                                 const PlacementInventory& inventory) {
  PlacementMember& member = *placement.Member(rank);
  member.copy = CountingCopy(inventory.copies);
  member.bytes = inventory.bytes;
  member.lent = inventory.lent;
  member.define_error = absl::OkStatus();
  // A version that an agent has was given, whatever the store remembers.
  Model& model = models_.find(placement.ref.model)->second;
  model.last_version = std::max(model.last_version, member.copy.version);
}

absl::Status ModelRegistry::ApplyWrite(Rank rank, const WriteEvent& write) {
  Placement* placement = Find(write.placement);
  PlacementMember* member =
      placement == nullptr ? nullptr : placement->Member(rank);
  if (member == nullptr) {
    return absl::NotFoundError(absl::StrCat(
        "placement \"", write.placement.model, "/", write.placement.placement,
        "\" of generation ", write.placement.generation,
        " is unknown, or rank ", rank.value(), " is no member of it"));
  }
  CopyInventory& copy = member->copy;
  const Version last = models_.find(write.placement.model)->second.last_version;
  switch (write.kind) {
    case WriteEvent::Kind::kLent:
      member->lent = true;
      member->bytes =
          placement->bytes[static_cast<size_t>(placement->IndexOf(rank))];
      copy = CopyInventory{};
      if (write.version > last) {
        return absl::InvalidArgumentError(absl::StrCat(
            "placement \"", placement->Name(), "\": worker \"", write.worker,
            "\" says its memory holds version ", write.version.value(),
            "; expected at most ", last.value()));
      }
      if (write.version != Version() || write.step != 0) {
        copy.state = CopyState::kPublished;
        copy.version = write.version;
        copy.step = write.step;
      }
      return absl::OkStatus();
    case WriteEvent::Kind::kBegun:
      copy = CopyInventory{};
      copy.state = CopyState::kWriting;
      placement->written.insert(
          placement->replica_of[static_cast<size_t>(placement->IndexOf(rank))]);
      return absl::OkStatus();
    case WriteEvent::Kind::kEnded:
      copy = CopyInventory{};
      copy.state = CopyState::kPublished;
      copy.step = write.step;
      return absl::OkStatus();
    case WriteEvent::Kind::kTorn:
      copy = CopyInventory{};
      copy.state = CopyState::kTorn;
      return absl::OkStatus();
    case WriteEvent::Kind::kUnspecified:
      break;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "placement \"", placement->Name(), "\": a write event without a kind"));
}

std::optional<StepAssignment> ModelRegistry::AssignStep(Placement& placement,
                                                        int64_t replica) {
  const int64_t step = placement.UnassignedStep(replica);
  if (step == 0) return std::nullopt;
  StepAssignment assignment{placement.ref, replica, step, Version(), false};
  const auto known = placement.steps.find(step);
  // The same replica ending the same step anew has other content.
  const bool again = known != placement.steps.end() &&
                     known->second.replicas.contains(replica) &&
                     placement.written.contains(replica);
  if (known != placement.steps.end() && !again) {
    if (!known->second.durable) return std::nullopt;
    assignment.version = known->second.version;
    known->second.replicas.insert(replica);
  } else {
    assignment.version = NewVersion(placement.ref.model);
    assignment.is_new = true;
    // Steps that went back: what was after this one is another history.
    placement.steps.erase(placement.steps.lower_bound(step),
                          placement.steps.end());
    placement.steps[step] = {assignment.version, {replica}, false};
    if (placement.steps.size() > kKeptSteps) {
      placement.steps.erase(placement.steps.begin());
    }
  }
  placement.written.erase(replica);
  return assignment;
}

void ModelRegistry::SetAssigned(const StepAssignment& assignment) {
  Placement* placement = Find(assignment.placement);
  if (placement == nullptr) return;
  if (const auto step = placement->steps.find(assignment.step);
      step != placement->steps.end() &&
      step->second.version == assignment.version) {
    step->second.durable = true;
  }
  for (const Rank rank : placement->RanksOfReplica(assignment.replica)) {
    CopyInventory& copy = placement->Member(rank)->copy;
    if (copy.state == CopyState::kPublished && copy.step == assignment.step &&
        copy.version == Version()) {
      copy.version = assignment.version;
    }
  }
}

void ModelRegistry::SetUnreadable(const PlacementRef& ref, Rank rank,
                                  CopyState state) {
  Placement* placement = Find(ref);
  PlacementMember* member =
      placement == nullptr ? nullptr : placement->Member(rank);
  if (member == nullptr) return;
  member->copy = CopyInventory{};
  member->copy.state = state;
}

void ModelRegistry::SetPublished(const PlacementRef& ref, Rank rank,
                                 Version version) {
  Placement* placement = Find(ref);
  PlacementMember* member =
      placement == nullptr ? nullptr : placement->Member(rank);
  if (member == nullptr) return;
  member->copy = CopyInventory{};
  member->copy.state = CopyState::kPublished;
  member->copy.version = version;
}

PlacementStatus DescribePlacement(
    const Placement& placement,
    const std::function<std::string(Rank)>& exception_of) {
  PlacementStatus status;
  status.placement = placement.ref.placement;
  status.mesh = placement.mesh;
  status.agents = placement.agents;
  status.layout = placement.layout->name;
  status.storage = placement.storage;
  status.bytes = std::accumulate(placement.bytes.begin(), placement.bytes.end(),
                                 int64_t{0});
  for (int64_t r = 0; r < placement.num_replicas; ++r) {
    ReplicaStatus replica;
    replica.replica = r;
    replica.version = placement.ReplicaVersion(r);
    Version newest;
    for (const Rank rank : placement.RanksOfReplica(r)) {
      newest = std::max(newest, placement.Member(rank)->copy.version);
    }
    for (size_t i = 0; i < placement.members.size(); ++i) {
      if (placement.replica_of[i] != r) continue;
      const PlacementMember& member = placement.members[i];
      std::string why = exception_of(member.rank);
      if (why.empty() && !member.define_error.ok()) {
        why = absl::StrCat("not defined: ", member.define_error.message());
      }
      if (why.empty() && member.copy.state != CopyState::kPublished) {
        why = CopyStateName(member.copy.state);
      } else if (why.empty() && member.copy.version == Version()) {
        why = absl::StrCat("step ", member.copy.step, " without a version");
      } else if (why.empty() && replica.version == Version() &&
                 member.copy.version != newest) {
        why = absl::StrCat("version ", member.copy.version.value());
      }
      if (why.empty()) continue;
      replica.exceptions.push_back(
          absl::StrCat(placement.agents[i], ": ", why));
    }
    status.replicas.push_back(std::move(replica));
  }
  return status;
}

}  // namespace sluice::coordinator
