#include "agent/core/stream.h"

#include <algorithm>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

void Close(CoreState& state, absl::Status reason) {
  state.closing = true;
  state.welcomed = false;
  state.out.set_connected(false);
  state.out.Add(CloseStream{std::move(reason)});
}

absl::Status CheckWelcome(const CoreState& state,
                          const WelcomeCommand& welcome) {
  if (welcome.incarnation != state.options.incarnation) {
    return absl::AbortedError(
        absl::StrCat("agent ", state.options.name, ": incarnation ",
                     welcome.incarnation.value(), " is meant, this is ",
                     state.options.incarnation.value()));
  }
  if (!state.cluster_id.empty() && welcome.cluster_id != state.cluster_id) {
    return absl::AbortedError(
        absl::StrCat("agent ", state.options.name, " belongs to cluster ",
                     state.cluster_id, ", not to ", welcome.cluster_id));
  }
  if (state.rank != kNoRank && welcome.rank != state.rank) {
    return absl::AbortedError(absl::StrCat(
        "agent ", state.options.name, ": rank ", welcome.rank.value(),
        " is meant, its rank is ", state.rank.value()));
  }
  return absl::OkStatus();
}

PlacementInventory Describe(const Placement& placement) {
  PlacementInventory inventory;
  inventory.placement = placement.ref();
  inventory.copies = placement.copies.Inventory();
  const int64_t bytes = placement.layout->buffer_bytes;
  if (placement.lent()) {
    inventory.lent = placement.copies.copy(0).buffer != BufferId();
    inventory.bytes = inventory.lent ? bytes : 0;
  } else {
    inventory.bytes = placement.ready ? 2 * bytes : 0;
  }
  return inventory;
}

void SendInventory(CoreState& state) {
  InventoryEvent page;
  for (const PlacementPtr& placement : state.placements.All()) {
    page.placements.push_back(Describe(*placement));
  }
  for (const auto& [id, operation] : state.operations.all()) {
    page.operations.push_back(id);
    if (operation.undecided()) page.undecided.push_back(id);
  }
  for (const auto& [id, session] : state.sessions) {
    page.workers.push_back(session.worker);
  }
  const auto max = static_cast<size_t>(state.options.max_entries_per_inventory);
  for (const SampleTensorPtr& tensor : state.samples.All()) {
    if (page.samples.size() == max) {
      page.more = true;
      state.out.Tell(std::exchange(page, {}));
    }
    page.samples.push_back(tensor->entry);
    page.owned.push_back(tensor->owned);
  }
  state.out.Tell(std::move(page));
}

// Votes and stops that were told while nobody listened.
void RepeatOutcomes(CoreState& state) {
  for (const auto& [id, operation] : state.operations.all()) {
    if (operation.state == OperationState::kVoted ||
        operation.state == OperationState::kFailed) {
      state.out.Tell(operation.vote);
    } else if (operation.state == OperationState::kStopped) {
      state.out.Tell(StoppedEvent{id});
    }
  }
  for (const auto& [event_id, news] : state.news) {
    state.out.Tell(news.body, event_id);
  }
}

}  // namespace

void OnRegistered(CoreState& state, const RegisteredEvent& event) {
  // The first cluster is the one it belongs to; what it holds means nothing in
  // another.
  if (state.cluster_id.empty()) state.cluster_id = event.cluster_id;
  if (state.cluster_id != event.cluster_id) return;
  if (state.rank == kNoRank) state.rank = event.rank;
}

void OnStreamUp(CoreState& state) {
  state.welcomed = false;
  state.closing = false;
  state.out.set_connected(false);
}

void OnStreamDown(CoreState& state) {
  state.welcomed = false;
  state.out.set_connected(false);
}

bool Fence(CoreState& state, const Command& command) {
  if (state.closing) return false;
  if (command.epoch < state.log.epoch()) {
    Close(state,
          absl::AbortedError(absl::StrCat(
              "epoch ", command.epoch.value(), " is over: epoch ",
              state.log.epoch().value(), " rules agent ", state.options.name)));
    return false;
  }
  if (const auto* welcome = std::get_if<WelcomeCommand>(&command.body)) {
    const absl::Status status = CheckWelcome(state, *welcome);
    if (!status.ok()) Close(state, status);
    return status.ok();
  }
  if (!state.welcomed || command.epoch != state.log.epoch()) {
    Close(state, absl::FailedPreconditionError(absl::StrCat(
                     "command ", command.id.value(), " of epoch ",
                     command.epoch.value(), " came before a Welcome")));
    return false;
  }
  return true;
}

void OnWelcome(CoreState& state, const Command& command) {
  const auto& welcome = std::get<WelcomeCommand>(command.body);
  state.cluster_id = welcome.cluster_id;
  state.rank = welcome.rank;
  state.log.Raise(command.epoch);
  state.welcomed = true;
  state.out.set_connected(true);
  SendInventory(state);
  Answer(state, command.epoch, command.id, absl::OkStatus());
  RepeatOutcomes(state);
}

bool IsNew(CoreState& state, const Command& command) {
  switch (state.log.Note(command.id)) {
    case CommandLog::Seen::kNew:
      return true;
    case CommandLog::Seen::kRunning:
      return false;
    case CommandLog::Seen::kAnswered:
      break;
  }
  state.out.Tell(CommandResult{command.id, *state.log.FindAnswer(command.id)});
  return false;
}

void Answer(CoreState& state, Epoch epoch, CommandId id,
            const absl::Status& outcome) {
  if (!state.log.Answer(epoch, id, outcome)) return;
  state.out.Tell(CommandResult{id, outcome});
}

void AnswerLater(CoreState& state, Epoch epoch, CommandId id) {
  state.log.Answer(epoch, id, absl::OkStatus());
}

}  // namespace sluice::agent
