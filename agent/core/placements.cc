#include "agent/core/placements.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "agent/core/stream.h"
#include "common/layout.h"

namespace sluice::agent {
namespace {

constexpr int kArenaCopies = 2;

absl::StatusOr<PlacementPtr> Build(const PlacementDefinition& definition) {
  const std::string name =
      absl::StrCat(definition.ref.model, "/", definition.ref.placement);
  if (definition.spec == nullptr || definition.layout == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("placement ", name, ": no model or no layout"));
  }
  if (definition.storage == Storage::kUnspecified) {
    return absl::InvalidArgumentError(
        absl::StrCat("placement ", name, ": no storage given"));
  }
  if (definition.mesh_index < 0 ||
      definition.mesh_index >= definition.mesh.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("placement ", name, ": mesh index ", definition.mesh_index,
                     " is not in a mesh of ", definition.mesh.size()));
  }
  absl::StatusOr<RankLayout> layout =
      ExpandLayout(*definition.spec, *definition.layout, definition.mesh,
                   definition.mesh_index);
  if (!layout.ok()) return layout.status();
  const bool lent = definition.storage == Storage::kLent;
  auto placement = std::make_shared<Placement>(lent ? 1 : kArenaCopies);
  placement->definition = definition;
  placement->layout = std::make_shared<const RankLayout>(*std::move(layout));
  placement->replica =
      ReplicaOf(*definition.layout, definition.mesh, definition.mesh_index);
  return placement;
}

// Gives back the memory of a placement that nobody finds any more; operations
// and pins keep what they hold.
void Retire(CoreState& state, Placement& placement) {
  placement.bracket.reset();
  if (placement.copies.current().has_value()) {
    Tell(state, placement, Version());
  }
  for (int i = 0; i < placement.copies.size(); ++i) {
    const BufferId buffer = placement.copies.copy(i).buffer;
    if (buffer != BufferId()) state.buffers.Doom(buffer);
  }
  state.buffers.FreeDoomed(state.out);
}

BufferUse UseOf(const Placement& placement, int copy) {
  if (placement.definition.storage == Storage::kHostArena) {
    return BufferUse::kHostCopy;
  }
  return copy == 0 ? BufferUse::kFirstCopy : BufferUse::kSecondCopy;
}

absl::Status AllocateArenas(CoreState& state, Placement& placement) {
  // A copy of nothing has a buffer too, so that nobody treats it differently.
  const int64_t bytes =
      std::max(placement.layout->buffer_bytes, kParamAlignment);
  if (kArenaCopies * bytes > state.buffers.free_bytes()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "placement ", placement.Name(), " needs ", kArenaCopies * bytes,
        " bytes (", kArenaCopies, " copies of ", bytes, ") on agent ",
        state.options.name, ", ", state.buffers.free_bytes(), " of ",
        state.buffers.memory_bytes(), " are free"));
  }
  for (int i = 0; i < kArenaCopies; ++i) {
    const BufferId id = state.buffers.NewId();
    state.buffers.Allocate(id, bytes,
                           absl::StrCat(placement.Name(), " copy ", i),
                           UseOf(placement, i), state.out);
    placement.copies.copy(i).buffer = id;
  }
  return absl::OkStatus();
}

// Pending, ready, or failed with the reason.
BufferTable::Readiness ReadinessOf(const CoreState& state,
                                   const Placement& placement,
                                   absl::Status* reason) {
  auto all = BufferTable::Readiness::kReady;
  for (int i = 0; i < placement.copies.size(); ++i) {
    const BufferId buffer = placement.copies.copy(i).buffer;
    switch (state.buffers.readiness(buffer)) {
      case BufferTable::Readiness::kPending:
        return BufferTable::Readiness::kPending;
      case BufferTable::Readiness::kFailed:
        *reason = state.buffers.failure(buffer);
        all = BufferTable::Readiness::kFailed;
        break;
      case BufferTable::Readiness::kReady:
        break;
    }
  }
  return all;
}

void AnswerAll(CoreState& state, const WaitingDefinition& waiting,
               const absl::Status& outcome) {
  for (const auto& [epoch, command] : waiting.answer_to) {
    Answer(state, epoch, command, outcome);
  }
}

// Whether the same generation is here; then the command is answered, or will
// be.
bool IsKnown(CoreState& state, const Command& command,
             const PlacementRef& ref) {
  const PlacementPtr known = state.placements.Find(ref.model, ref.placement);
  if (known == nullptr || known->ref().generation != ref.generation) {
    return false;
  }
  for (WaitingDefinition& waiting : state.definitions) {
    if (waiting.placement != known) continue;
    waiting.answer_to.emplace_back(command.epoch, command.id);
    return true;
  }
  Answer(state, command.epoch, command.id, absl::OkStatus());
  return true;
}

}  // namespace

void OnDefinePlacement(CoreState& state, const Command& command,
                       const PlacementDefinition& definition) {
  if (IsKnown(state, command, definition.ref)) return;
  absl::StatusOr<PlacementPtr> built = Build(definition);
  if (!built.ok()) {
    Answer(state, command.epoch, command.id, built.status());
    return;
  }
  const PlacementPtr placement = *std::move(built);
  if (const PlacementPtr old = state.placements.Remove(definition.ref)) {
    Retire(state, *old);
  }
  if (placement->lent()) {
    placement->ready = true;
  } else if (absl::Status status = AllocateArenas(state, *placement);
             !status.ok()) {
    Answer(state, command.epoch, command.id, status);
    return;
  }
  state.placements.Insert(placement);
  if (placement->ready) {
    Answer(state, command.epoch, command.id, absl::OkStatus());
  } else {
    state.definitions.push_back({placement, {{command.epoch, command.id}}});
  }
}

bool FinishDefinitions(CoreState& state) {
  bool any = false;
  for (auto it = state.definitions.begin(); it != state.definitions.end();) {
    Placement& placement = *it->placement;
    absl::Status outcome;
    if (placement.removed) {
      outcome = absl::AbortedError(absl::StrCat("placement ", placement.Name(),
                                                " was removed meanwhile"));
    } else {
      const auto readiness = ReadinessOf(state, placement, &outcome);
      if (readiness == BufferTable::Readiness::kPending) {
        ++it;
        continue;
      }
      placement.ready = readiness == BufferTable::Readiness::kReady;
      if (!placement.ready) {
        state.placements.Remove(placement.ref());
        Retire(state, placement);
      }
    }
    const WaitingDefinition waiting = std::move(*it);
    it = state.definitions.erase(it);
    AnswerAll(state, waiting, outcome);
    any = true;
  }
  return any;
}

void OnRemovePlacement(CoreState& state, const Command& command,
                       const PlacementRef& ref) {
  const PlacementPtr known = state.placements.Find(ref.model, ref.placement);
  if (known != nullptr && known->ref().generation == ref.generation) {
    state.placements.Remove(ref);
    Retire(state, *known);
  }
  Answer(state, command.epoch, command.id, absl::OkStatus());
}

void OnVersionAssigned(CoreState& state, const Command& command,
                       const VersionAssignedCommand& assigned) {
  const absl::StatusOr<PlacementPtr> placement =
      state.placements.Resolve(assigned.placement);
  absl::Status outcome = placement.status();
  if (outcome.ok() &&
      !AssignVersion(state, **placement, assigned.step, assigned.version)) {
    outcome = absl::FailedPreconditionError(absl::StrCat(
        "placement ", (*placement)->Name(), ": the content of step ",
        assigned.step, " is not here any more"));
  }
  Answer(state, command.epoch, command.id, outcome);
}

void OnGetPlacement(CoreState& state, const GetPlacementRequest& request) {
  const PlacementPtr placement =
      state.placements.Find(request.model, request.placement);
  if (placement == nullptr) {
    state.out.Respond(request.call,
                      absl::NotFoundError(absl::StrCat(
                          "placement ", request.model, "/", request.placement,
                          " is not defined on agent ", state.options.name)),
                      GetPlacementReply{});
    return;
  }
  GetPlacementReply reply;
  reply.ref = placement->ref();
  reply.layout = placement->layout;
  reply.mesh_index = placement->definition.mesh_index;
  reply.replica = placement->replica;
  reply.storage = placement->definition.storage;
  reply.version = placement->copies.current_version();
  reply.copies = placement->copies.Inventory();
  state.out.Respond(request.call, absl::OkStatus(), std::move(reply));
}

bool AssignVersion(CoreState& state, Placement& placement, int64_t step,
                   Version version) {
  const Version told = placement.copies.current_version();
  if (!placement.copies.AssignVersion(step, version)) return false;
  TellCurrentVersion(state, placement, told);
  return true;
}

void TellCurrentVersion(CoreState& state, const Placement& placement,
                        Version told) {
  const Version version = placement.copies.current_version();
  if (placement.removed || version == told) return;
  Tell(state, placement, version);
}

void Tell(CoreState& state, const Placement& placement, Version version) {
  state.out.Add(TellVersion{placement.ref().model, placement.ref().placement,
                            version, placement.lender,
                            placement.overwrite_announced});
}

}  // namespace sluice::agent
