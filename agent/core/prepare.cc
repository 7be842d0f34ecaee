#include "agent/core/prepare.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "agent/core/operations.h"
#include "agent/core/overwrites.h"
#include "agent/core/placements.h"
#include "agent/core/stream.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

absl::Status CheckNoWriterWaits(const CoreState& state,
                                const Placement& placement) {
  for (const WaitingWriter& writer : state.writers) {
    if (writer.placement.get() != &placement) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "placement ", placement.Name(), " on agent ", state.options.name,
        ": worker ", placement.lender_name, " is about to write it"));
  }
  return absl::OkStatus();
}

std::string StateText(const Placement& placement) {
  if (placement.bracket.has_value()) {
    return absl::StrCat("a write bracket of worker ", placement.bracket->worker,
                        " is open");
  }
  std::string text = "held";
  for (int i = 0; i < placement.copies.size(); ++i) {
    const Copy& copy = placement.copies.copy(i);
    absl::StrAppend(&text, i == 0 ? ": " : ", ");
    if (copy.state == CopyState::kPublished) {
      absl::StrAppend(&text, "version ", copy.version.value());
    } else {
      absl::StrAppend(&text,
                      copy.state == CopyState::kTorn ? "torn" : "nothing");
    }
  }
  return text;
}

void HoldBuffer(CoreState& state, Operation& operation, BufferId buffer) {
  state.buffers.Hold(buffer);
  operation.held_buffers.push_back(buffer);
}

// Claims the copy of a version for reading, until the operation is released.
absl::Status ClaimSource(CoreState& state, Operation& operation,
                         const PlacementRef& ref, Version version) {
  SLUICE_ASSIGN_OR_RETURN(const PlacementPtr placement,
                          state.placements.Resolve(ref));
  const std::optional<int> index = placement->copies.FindPublished(version);
  if (!index.has_value()) {
    return absl::FailedPreconditionError(
        absl::StrCat("placement ", placement->Name(), " on agent ",
                     state.options.name, ": version ", version.value(),
                     " is not readable here; ", StateText(*placement)));
  }
  SLUICE_RETURN_IF_ERROR(CheckNoWriterWaits(state, *placement));
  operation.source = {placement, *index};
  operation.source.copy().readers.insert(operation.id);
  HoldBuffer(state, operation, operation.source.copy().buffer);
  return absl::OkStatus();
}

bool ReadsParameters(const PlanPart& part, Rank self) {
  return std::any_of(part.transfers.begin(), part.transfers.end(),
                     [self](const Transfer& transfer) {
                       return transfer.source == self &&
                              !transfer.reads_after.has_value();
                     });
}

bool Receives(const PlanPart& part, Rank self, size_t destination) {
  return std::any_of(part.transfers.begin(), part.transfers.end(),
                     [&](const Transfer& transfer) {
                       return transfer.destination == self &&
                              transfer.destination_placement ==
                                  static_cast<int32_t>(destination);
                     });
}

// Every member of a destination is bound, also one that receives nothing: the
// commit publishes the version on all of them.
absl::Status FindDestinations(CoreState& state, Operation& operation) {
  const PrepareCommand& prepare = operation.prepare;
  for (size_t i = 0; i < prepare.destinations.size(); ++i) {
    const PlacementRef& ref = prepare.destinations[i];
    const PlacementPtr found = state.placements.Find(ref.model, ref.placement);
    if (found == nullptr && !Receives(*operation.part, state.rank, i)) {
      operation.destinations.emplace_back();
      continue;
    }
    SLUICE_ASSIGN_OR_RETURN(const PlacementPtr placement,
                            state.placements.Resolve(ref));
    if (placement->lent()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "placement ", placement->Name(),
          " is in memory that a worker lends, one copy: a sync in mode SHADOW "
          "needs two, so it cannot be its destination"));
    }
    for (const CopyRef& other : operation.destinations) {
      if (other.placement != placement) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "placement ", placement->Name(), " is a destination twice"));
    }
    operation.destinations.push_back({placement, 0});
  }
  for (const Transfer& transfer : operation.part->transfers) {
    if (transfer.destination_placement >= 0 &&
        transfer.destination_placement <
            static_cast<int32_t>(prepare.destinations.size())) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "transfer ", transfer.id, ": destination placement ",
        transfer.destination_placement, " of ", prepare.destinations.size()));
  }
  return absl::OkStatus();
}

absl::Status ClaimParameters(CoreState& state, Operation& operation) {
  if (ReadsParameters(*operation.part, state.rank)) {
    SLUICE_RETURN_IF_ERROR(ClaimSource(
        state, operation, operation.prepare.source, operation.prepare.version));
  }
  return FindDestinations(state, operation);
}

// What the part does with each of its entries here.
struct EntryUse {
  bool read = false;
  bool received = false;
};

absl::StatusOr<std::vector<EntryUse>> UsesOf(const PlanPart& part, Rank self) {
  std::vector<EntryUse> uses(part.entries.size());
  for (const Transfer& transfer : part.transfers) {
    for (const uint32_t entry : transfer.samples) {
      if (entry >= uses.size()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "transfer ", transfer.id, ": entry ", entry, " of ", uses.size()));
      }
      if (transfer.source == self && !transfer.reads_after.has_value()) {
        uses[entry].read = true;
      }
      if (transfer.destination == self) uses[entry].received = true;
    }
  }
  return uses;
}

absl::Status ClaimSamples(CoreState& state, Operation& operation) {
  const PlanPart& part = *operation.part;
  SLUICE_ASSIGN_OR_RETURN(const std::vector<EntryUse> uses,
                          UsesOf(part, state.rank));
  operation.samples.resize(part.entries.size());
  for (size_t i = 0; i < part.entries.size(); ++i) {
    const SampleEntry& entry = part.entries[i];
    const std::string name = SampleName(entry.sample_id, entry.key);
    if (!uses[i].read) {
      if (uses[i].received) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(name, " is in the part, but no transfer moves it"));
    }
    SampleTensorPtr held = state.samples.Find(entry.sample_id, entry.key,
                                              /*with_committed=*/true);
    if (held == nullptr || !(held->entry == entry)) {
      return absl::FailedPreconditionError(
          absl::StrCat(name,
                       held == nullptr ? " is not held on agent "
                                       : " has another shape on agent ",
                       state.options.name));
    }
    operation.samples[i].held = std::move(held);
  }
  return absl::OkStatus();
}

// Makes room for what a redistribution brings here.
absl::Status MakeLandings(CoreState& state, Operation& operation) {
  SLUICE_ASSIGN_OR_RETURN(const std::vector<EntryUse> uses,
                          UsesOf(*operation.part, state.rank));
  std::vector<int64_t> sizes;
  for (size_t i = 0; i < uses.size(); ++i) {
    if (uses[i].received) {
      sizes.push_back(operation.part->entries[i].num_bytes());
    }
  }
  absl::StatusOr<std::vector<SampleBlockPtr>> blocks =
      state.arena.Allocate(sizes, state.out);
  if (!blocks.ok()) {
    return Annotate(blocks.status(),
                    absl::StrCat("agent ", state.options.name));
  }
  size_t next = 0;
  for (size_t i = 0; i < uses.size(); ++i) {
    if (!uses[i].received) continue;
    operation.samples[i].landing =
        std::make_shared<const SampleTensor>(SampleTensor{
            operation.part->entries[i], (*blocks)[next++], /*owned=*/false});
  }
  operation.landings_made = true;
  return absl::OkStatus();
}

// Who keeps the operation from its targets; empty if nobody.
std::string TargetUsers(const Operation& operation) {
  std::string users;
  for (const CopyRef& destination : operation.destinations) {
    if (destination.placement == nullptr) continue;
    const CopySet& copies = destination.placement->copies;
    const std::string of_copy = copies.copy(copies.Target()).Users();
    if (of_copy.empty()) continue;
    absl::StrAppend(&users, users.empty() ? "" : "; ",
                    destination.placement->Name(), ": ", of_copy);
  }
  return users;
}

void TakeTargets(CoreState& state, Operation& operation) {
  ClearWanted(operation);
  for (CopyRef& destination : operation.destinations) {
    if (destination.placement == nullptr) continue;
    Placement& placement = *destination.placement;
    const Version told = placement.copies.current_version();
    destination.index = placement.copies.Target();
    Copy& copy = destination.copy();
    if (copy.version != Version()) {
      state.out.Add(ForgetContent{placement.ContentKey(copy.version)});
    }
    placement.copies.BeginFill(destination.index, operation.id,
                               operation.prepare.version);
    HoldBuffer(state, operation, copy.buffer);
    // The worker of lent memory was told before: its version is no more.
    ForgetOverwrite(placement);
    if (!placement.lent()) TellCurrentVersion(state, placement, told);
  }
  operation.targets_taken = true;
}

// Gives the bound operation to the host.
void Bind(CoreState& state, Operation& operation) {
  TakeTargets(state, operation);
  operation.deadline_at = state.now + operation.deadline;
  if (operation.type == OperationType::kLoad) {
    operation.state = OperationState::kRunning;
    const CopyRef& target = operation.destinations[0];
    state.out.Add(StartLoad{operation.id, target.placement->Bind(target.index),
                            operation.directory});
    AnswerOperation(state, operation, absl::OkStatus());
    return;
  }
  operation.state = OperationState::kBinding;
  operation.has_execution = true;
  PrepareExecution order;
  order.operation = operation.id;
  order.part = operation.part;
  if (operation.source.placement != nullptr) {
    const Placement& source = *operation.source.placement;
    order.source = source.Bind(operation.source.index);
    order.content_key = source.ContentKey(operation.prepare.version);
  }
  for (const CopyRef& target : operation.destinations) {
    order.destinations.emplace_back();
    if (target.placement == nullptr) continue;
    order.destinations.back() = target.placement->Bind(target.index);
  }
  for (const OperationSample& sample : operation.samples) {
    const bool both = sample.held != nullptr && sample.landing != nullptr;
    const auto& place = sample.held != nullptr ? sample.held : sample.landing;
    order.samples.push_back(place->Place());
    order.landings.emplace_back();
    if (both) order.landings.back() = sample.landing->Place();
  }
  order.digests = operation.prepare.digests;
  const int64_t staging = operation.prepare.staging_bytes;
  order.staging_bytes = staging > 0 ? staging : state.options.staging_bytes;
  order.progress_timeout = operation.prepare.progress_timeout;
  order.group = operation.prepare.group;
  state.out.Add(std::move(order));
}

// Goes on with a waiting operation. True: it is bound; false: it goes on
// waiting. Errors: it is refused.
absl::StatusOr<bool> Advance(CoreState& state, Operation& operation) {
  SLUICE_RETURN_IF_ERROR(CheckSourceThere(state, operation));
  for (const CopyRef& target : operation.destinations) {
    if (target.placement == nullptr) continue;
    if (target.placement->removed) {
      return absl::AbortedError(absl::StrCat(
          "placement ", target.placement->Name(), " was removed meanwhile"));
    }
    if (!target.placement->ready) return false;
  }
  if (!TargetUsers(operation).empty()) {
    MarkWanted(operation);
    return false;
  }
  if (operation.type == OperationType::kSamples) {
    if (!operation.landings_made) {
      SLUICE_RETURN_IF_ERROR(MakeLandings(state, operation));
    }
    for (const OperationSample& sample : operation.samples) {
      if (sample.landing == nullptr) continue;
      const BufferId buffer = sample.landing->block->buffer;
      switch (state.buffers.readiness(buffer)) {
        case BufferTable::Readiness::kPending:
          return false;
        case BufferTable::Readiness::kFailed:
          return state.buffers.failure(buffer);
        case BufferTable::Readiness::kReady:
          break;
      }
    }
  }
  SLUICE_ASSIGN_OR_RETURN(const bool known,
                          WorkersKnowOfOverwrite(state, operation));
  if (!known) return false;
  Bind(state, operation);
  return true;
}

std::string WhatIsWaitedFor(const Operation& operation) {
  for (const CopyRef& target : operation.destinations) {
    if (target.placement == nullptr) continue;
    if (target.placement->overwrite_announced == 0) continue;
    return absl::StrCat(target.placement->Name(), ": worker ",
                        target.placement->lender_name,
                        " does not acknowledge that it will be overwritten");
  }
  return "memory that is still being allocated";
}

absl::Status WaitedTooLong(const CoreState& state, const Operation& operation) {
  const std::string users = TargetUsers(operation);
  return absl::DeadlineExceededError(
      absl::StrCat("operation ", operation.id.value(), " on agent ",
                   state.options.name, " waited too long to write ",
                   users.empty() ? WhatIsWaitedFor(operation) : users));
}

absl::Status CheckNewOperation(CoreState& state, OperationId id) {
  if (id == OperationId()) {
    return absl::InvalidArgumentError("operation 0 is none");
  }
  if (state.operations.Find(id) == nullptr) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat(
      "operation ", id.value(), " is known on agent ", state.options.name));
}

absl::StatusOr<std::shared_ptr<const PlanPart>> FindPart(
    CoreState& state, const PrepareCommand& prepare) {
  if (prepare.part != nullptr) {
    if (prepare.part->digest != prepare.part_digest) {
      return absl::InvalidArgumentError(
          absl::StrCat("the part's digest is ", prepare.part->digest, ", ",
                       prepare.part_digest, " was announced"));
    }
    state.parts.Insert(prepare.part);
    return prepare.part;
  }
  std::shared_ptr<const PlanPart> part = state.parts.Find(prepare.part_digest);
  if (part != nullptr) return part;
  return absl::NotFoundError(
      absl::StrCat("the part with digest ", prepare.part_digest,
                   " is not known on agent ", state.options.name, ": send it"));
}

Operation NewOperation(const CoreState& state, const Command& command,
                       OperationId id, OperationType type) {
  Operation operation;
  operation.id = id;
  operation.type = type;
  operation.answer_to = command.id;
  operation.epoch = command.epoch;
  operation.wait_until = state.now;
  operation.deadline = state.options.default_deadline;
  operation.deadline_at = absl::InfiniteFuture();
  return operation;
}

absl::Status AdmitPrepare(CoreState& state, const Command& command,
                          const PrepareCommand& prepare) {
  SLUICE_RETURN_IF_ERROR(CheckNewOperation(state, prepare.operation));
  SLUICE_ASSIGN_OR_RETURN(auto part, FindPart(state, prepare));
  const bool samples = prepare.source.model.empty();
  Operation& operation = state.operations.Insert(NewOperation(
      state, command, prepare.operation,
      samples ? OperationType::kSamples : OperationType::kParameters));
  operation.prepare = prepare;
  operation.prepare.part = nullptr;
  operation.part = std::move(part);
  operation.wait_until = state.now + prepare.wait_deadline;
  if (prepare.deadline > absl::ZeroDuration()) {
    operation.deadline = prepare.deadline;
  }
  absl::Status status = samples ? ClaimSamples(state, operation)
                                : ClaimParameters(state, operation);
  if (!status.ok()) Drop(state, operation);
  return status;
}

absl::Status AdmitLoad(CoreState& state, const Command& command,
                       const LoadCommand& load) {
  SLUICE_RETURN_IF_ERROR(CheckNewOperation(state, load.operation));
  SLUICE_ASSIGN_OR_RETURN(const PlacementPtr placement,
                          state.placements.Resolve(load.placement));
  if (placement->lent()) {
    if (placement->copies.copy(0).buffer == BufferId()) {
      return absl::FailedPreconditionError(
          absl::StrCat("placement ", placement->Name(), " on agent ",
                       state.options.name, ": no worker has lent its memory"));
    }
    if (placement->bracket.has_value()) {
      return absl::FailedPreconditionError(
          absl::StrCat("placement ", placement->Name(), " on agent ",
                       state.options.name, ": ", StateText(*placement)));
    }
    SLUICE_RETURN_IF_ERROR(CheckNoWriterWaits(state, *placement));
  }
  Operation& operation = state.operations.Insert(
      NewOperation(state, command, load.operation, OperationType::kLoad));
  operation.directory = load.directory;
  operation.destinations.push_back({placement, 0});
  operation.wait_until = state.now + state.options.load_wait;
  if (load.deadline > absl::ZeroDuration()) operation.deadline = load.deadline;
  return absl::OkStatus();
}

}  // namespace

void OnPrepare(CoreState& state, const Command& command,
               const PrepareCommand& prepare) {
  // What is waited for is looked at in BindWaiting.
  const absl::Status status = AdmitPrepare(state, command, prepare);
  if (!status.ok()) Answer(state, command.epoch, command.id, status);
}

void OnLoad(CoreState& state, const Command& command, const LoadCommand& load) {
  const absl::Status status = AdmitLoad(state, command, load);
  if (!status.ok()) Answer(state, command.epoch, command.id, status);
}

void OnReadDigests(CoreState& state, const Command& command,
                   const ReadDigestsCommand& read) {
  absl::Status status = CheckNewOperation(state, read.operation);
  if (status.ok()) {
    Operation& operation = state.operations.Insert(
        NewOperation(state, command, read.operation, OperationType::kDigests));
    status = ClaimSource(state, operation, read.placement, read.version);
    if (status.ok()) {
      operation.state = OperationState::kRunning;
      const CopyRef& from = operation.source;
      state.out.Add(ReadDigests{operation.id, from.placement->Bind(from.index),
                                read.dtypes});
      return;
    }
    Drop(state, operation);
  }
  Answer(state, command.epoch, command.id, status);
}

bool BindWaiting(CoreState& state) {
  std::vector<OperationId> waiting;
  for (const auto& [id, operation] : state.operations.all()) {
    if (operation.state == OperationState::kWaiting) waiting.push_back(id);
  }
  bool any = false;
  for (const OperationId id : waiting) {
    Operation& operation = *state.operations.Find(id);
    absl::StatusOr<bool> bound = Advance(state, operation);
    if (bound.ok() && !*bound && state.now >= operation.wait_until) {
      bound = WaitedTooLong(state, operation);
    }
    if (!bound.ok()) {
      AnswerOperation(state, operation, bound.status());
      Drop(state, operation);
    }
    any = any || !bound.ok() || *bound;
  }
  return any;
}

}  // namespace sluice::agent
