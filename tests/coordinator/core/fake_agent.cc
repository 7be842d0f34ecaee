#include "tests/coordinator/core/fake_agent.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/layout.h"
#include "common/overloaded.h"

namespace sluice::coordinator {

VoteEvent FakeAgent::Vote(OperationId operation, absl::Status outcome) const {
  VoteEvent vote;
  vote.operation = operation;
  vote.outcome = std::move(outcome);
  vote.stats.bytes = {100, 0, 0};
  vote.stats.seconds = {0.5, 0, 0};
  return vote;
}

Version FakeAgent::Published(const std::string& placement) const {
  Version version;
  for (const auto& [ref, held] : placements) {
    if (ref.placement != placement) continue;
    for (const CopyInventory& copy : held.copies) {
      if (copy.state == CopyState::kPublished) {
        version = std::max(version, copy.version);
      }
    }
  }
  return version;
}

void FakeAgent::StartAgain(uint64_t new_incarnation) {
  incarnation = Incarnation(new_incarnation);
  running = true;
  connected = false;
  next_event_id = 1;
  placements.clear();
  samples.clear();
  owned.clear();
  operations.clear();
  undecided.clear();
  parts.clear();
  received.clear();
  answered_.clear();
  work_.clear();
  known_parts_.clear();
  muted_.clear();
  refused_.clear();
}

InventoryEvent FakeAgent::Inventory() const {
  InventoryEvent inventory;
  for (const auto& [ref, held] : placements) {
    PlacementInventory one;
    one.placement = ref;
    one.copies = held.copies;
    one.lent = held.copies.size() == 1;
    inventory.placements.push_back(std::move(one));
  }
  inventory.samples = samples;
  inventory.owned = owned;
  inventory.operations.assign(operations.begin(), operations.end());
  inventory.undecided.assign(undecided.begin(), undecided.end());
  return inventory;
}

std::vector<AgentEvent> FakeAgent::OnCommand(const Command& command) {
  received.push_back(command);
  std::vector<AgentEvent> events;
  if (muted_.contains(command.body.index()) ||
      std::holds_alternative<EventAck>(command.body)) {
    return events;
  }
  absl::Status outcome;
  const std::pair<Epoch, CommandId> key(command.epoch, command.id);
  if (const auto answered = answered_.find(key); answered != answered_.end()) {
    return {Event(CommandResult{command.id, answered->second})};
  }
  if (const auto refused = refused_.find(command.body.index());
      refused != refused_.end()) {
    outcome = refused->second;
  } else {
    outcome = Act(command, events);
  }
  answered_[key] = outcome;
  // Inventory and digests come before the result, the rest after it.
  const bool first = std::holds_alternative<WelcomeCommand>(command.body) ||
                     std::holds_alternative<ReadDigestsCommand>(command.body);
  // The vote answers an Execute.
  if (!outcome.ok() || !std::holds_alternative<ExecuteCommand>(command.body)) {
    events.insert(first ? events.end() : events.begin(),
                  Event(CommandResult{command.id, outcome}));
  }
  if (std::holds_alternative<WelcomeCommand>(command.body)) {
    for (const OperationId id : undecided) events.push_back(Event(Vote(id)));
  }
  return events;
}

absl::Status FakeAgent::Act(const Command& command,
                            std::vector<AgentEvent>& events) {
  return std::visit(
      Overloaded{
          [&](const WelcomeCommand& welcome) {
            rank = welcome.rank;
            events.push_back(Event(Inventory()));
            return absl::OkStatus();
          },
          [&](const DefinePlacementCommand& define) {
            OnDefine(define.definition);
            return absl::OkStatus();
          },
          [&](const RemovePlacementCommand& remove) {
            placements.erase(remove.placement);
            return absl::OkStatus();
          },
          [&](const SetPeersCommand&) { return absl::OkStatus(); },
          [&](const LoadCommand& load) { return OnLoad(load, events); },
          [&](const PrepareCommand& prepare) { return OnPrepare(prepare); },
          [&](const ExecuteCommand& execute) {
            OnVoted(execute.operation, events);
            return absl::OkStatus();
          },
          [&](const CommitCommand& commit) { return OnCommit(commit); },
          [&](const AbortCommand& abort) {
            End(abort.operation, CopyState::kTorn);
            events.push_back(Event(StoppedEvent{abort.operation}));
            return absl::OkStatus();
          },
          [&](const ReleaseCommand& release) {
            operations.erase(release.operation);
            return absl::OkStatus();
          },
          [&](const ReadDigestsCommand& read) {
            events.push_back(
                Event(DigestsEvent{read.operation, Digests(read.placement)}));
            return absl::OkStatus();
          },
          [&](const ClearSamplesCommand& clear) {
            Drop(clear);
            return absl::OkStatus();
          },
          [&](const EventAck&) { return absl::OkStatus(); },
          [&](const VersionAssignedCommand& assigned) {
            OnVersionAssigned(assigned);
            return absl::OkStatus();
          },
      },
      command.body);
}

void FakeAgent::OnDefine(const PlacementDefinition& definition) {
  const size_t copies = definition.storage == Storage::kLent ? 1 : 2;
  placements.try_emplace(
      definition.ref,
      FakePlacement{definition, std::vector<CopyInventory>(copies)});
}

absl::Status FakeAgent::OnLoad(const LoadCommand& load,
                               std::vector<AgentEvent>& events) {
  absl::Status filled = Fill(load.placement, load.operation, Version());
  if (!filled.ok()) return filled;
  operations.insert(load.operation);
  work_[load.operation] = {{load.placement}, Version(), nullptr};
  OnVoted(load.operation, events);
  return absl::OkStatus();
}

void FakeAgent::OnVersionAssigned(const VersionAssignedCommand& assigned) {
  for (CopyInventory& copy : placements[assigned.placement].copies) {
    if (copy.state == CopyState::kPublished && copy.step == assigned.step) {
      copy.version = assigned.version;
    }
  }
}

absl::Status FakeAgent::OnPrepare(const PrepareCommand& prepare) {
  std::shared_ptr<const PlanPart> part = prepare.part;
  if (part == nullptr) {
    const auto known = known_parts_.find(prepare.part_digest);
    if (known == known_parts_.end()) {
      return absl::NotFoundError("part is not known");
    }
    part = known->second;
  }
  known_parts_[prepare.part_digest] = part;
  Work work{{}, prepare.version, part};
  for (const PlacementRef& ref : prepare.destinations) {
    if (!placements.contains(ref)) continue;
    work.destinations.push_back(ref);
    absl::Status filled = Fill(ref, prepare.operation, prepare.version);
    if (!filled.ok()) return filled;
  }
  operations.insert(prepare.operation);
  work_[prepare.operation] = std::move(work);
  return absl::OkStatus();
}

// Takes the copy that readers do not have, or the only one.
absl::Status FakeAgent::Fill(const PlacementRef& ref, OperationId operation,
                             Version version) {
  std::vector<CopyInventory>& copies = placements.at(ref).copies;
  size_t current = copies.size();
  for (size_t i = 0; i < copies.size(); ++i) {
    if (copies[i].state != CopyState::kPublished) continue;
    if (current == copies.size() ||
        copies[i].version > copies[current].version) {
      current = i;
    }
  }
  const size_t target = copies.size() > 1 && current == 0 ? 1 : 0;
  CopyInventory& copy = copies[target];
  if (copy.state == CopyState::kFilling || copy.state == CopyState::kStaged) {
    return absl::FailedPreconditionError(absl::StrCat(
        name, ": operation ", copy.operation.value(), " has the copy"));
  }
  copy = {CopyState::kFilling, version, operation, 0};
  return absl::OkStatus();
}

void FakeAgent::OnVoted(OperationId operation,
                        std::vector<AgentEvent>& events) {
  if (!votes) return;
  if (!vote_outcome.ok()) {
    events.push_back(Event(Vote(operation, vote_outcome)));
    return;
  }
  for (auto& [ref, held] : placements) {
    for (CopyInventory& copy : held.copies) {
      if (copy.operation == operation) copy.state = CopyState::kStaged;
    }
  }
  undecided.insert(operation);
  events.push_back(Event(Vote(operation)));
}

absl::Status FakeAgent::OnCommit(const CommitCommand& commit) {
  if (undecided.erase(commit.operation) == 0) {
    return absl::NotFoundError(
        absl::StrCat("operation ", commit.operation.value()));
  }
  for (auto& [ref, held] : placements) {
    for (CopyInventory& copy : held.copies) {
      if (copy.operation != commit.operation) continue;
      copy = {CopyState::kPublished, commit.version, OperationId(), 0};
    }
  }
  operations.erase(commit.operation);
  const Work& work = work_[commit.operation];
  if (work.part != nullptr) {
    for (const Transfer& transfer : work.part->transfers) {
      if (transfer.destination != rank) continue;
      for (const uint32_t entry : transfer.samples) {
        samples.push_back(work.part->entries[entry]);
        owned.push_back(false);
      }
    }
  }
  return absl::OkStatus();
}

void FakeAgent::End(OperationId operation, CopyState lent_becomes) {
  undecided.erase(operation);
  for (auto& [ref, held] : placements) {
    for (CopyInventory& copy : held.copies) {
      if (copy.operation != operation) continue;
      copy = {held.copies.size() == 1 ? lent_becomes : CopyState::kAbsent,
              Version(), OperationId(), 0};
    }
  }
}

std::vector<BoxDigest> FakeAgent::Digests(const PlacementRef& ref) const {
  const PlacementDefinition& d = placements.at(ref).definition;
  const RankLayout layout =
      *ExpandLayout(*d.spec, *d.layout, d.mesh, d.mesh_index);
  std::vector<BoxDigest> digests;
  for (const View& view : layout.views) {
    // Adds over disjoint boxes: each element counts as its first coordinate
    // plus one.
    Digest digest;
    const Interval& rows = view.box.dim(0);
    const int64_t width =
        view.box.num_elements() / std::max<int64_t>(1, rows.size());
    for (int64_t i = rows.lo; i < rows.hi; ++i) {
      digest.lane0 += static_cast<uint64_t>((i + 1) * width);
    }
    digest.lane0 ^= corruption;
    digests.push_back({view.tensor, view.box, digest});
  }
  return digests;
}

void FakeAgent::Drop(const ClearSamplesCommand& clear) {
  const auto dropped = [&clear](const SampleEntry& entry) {
    const auto has = [](const std::vector<std::string>& names,
                        const std::string& name) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    return has(clear.sample_ids, entry.sample_id) &&
           (clear.keys.empty() || has(clear.keys, entry.key));
  };
  for (size_t i = samples.size(); i-- > 0;) {
    if (!dropped(samples[i])) continue;
    samples.erase(samples.begin() + static_cast<int64_t>(i));
    owned.erase(owned.begin() + static_cast<int64_t>(i));
  }
}

}  // namespace sluice::coordinator
