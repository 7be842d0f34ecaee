#include "agent/core/agent_core.h"

#include <utility>
#include <variant>

#include "agent/core/core_state.h"
#include "agent/core/memory.h"
#include "agent/core/news.h"
#include "agent/core/operations.h"
#include "agent/core/overwrites.h"
#include "agent/core/pins.h"
#include "agent/core/placements.h"
#include "agent/core/prepare.h"
#include "agent/core/samples.h"
#include "agent/core/stream.h"
#include "agent/core/workers.h"
#include "common/check.h"
#include "common/overloaded.h"

namespace sluice::agent {
namespace {

void Execute(CoreState& state, const Command& command) {
  std::visit(
      Overloaded{
          [](const WelcomeCommand&) {},  // Handled before.
          [&](const DefinePlacementCommand& body) {
            OnDefinePlacement(state, command, body.definition);
          },
          [&](const RemovePlacementCommand& body) {
            OnRemovePlacement(state, command, body.placement);
          },
          [&](const SetPeersCommand& body) {
            state.out.Add(SetPeers{body.peers});
            Answer(state, command.epoch, command.id, absl::OkStatus());
          },
          [&](const LoadCommand& body) { OnLoad(state, command, body); },
          [&](const PrepareCommand& body) { OnPrepare(state, command, body); },
          [&](const ExecuteCommand& body) { OnExecute(state, command, body); },
          [&](const CommitCommand& body) { OnCommit(state, command, body); },
          [&](const AbortCommand& body) { OnAbort(state, command, body); },
          [&](const ReleaseCommand& body) {
            OnRelease(state, command, body.operation);
          },
          [&](const ReadDigestsCommand& body) {
            OnReadDigests(state, command, body);
          },
          [&](const ClearSamplesCommand& body) {
            OnClearSamples(state, command, body);
          },
          [&](const EventAck& body) { OnEventAck(state, body); },
          [&](const VersionAssignedCommand& body) {
            OnVersionAssigned(state, command, body);
          }},
      command.body);
}

void OnCommand(CoreState& state, const Command& command) {
  if (!Fence(state, command)) return;
  if (std::holds_alternative<WelcomeCommand>(command.body)) {
    if (command.epoch > state.log.epoch()) EndOldEpoch(state, command.epoch);
    OnWelcome(state, command);
    return;
  }
  // Acks are not answered, and harmless when repeated.
  if (std::holds_alternative<EventAck>(command.body) || IsNew(state, command)) {
    Execute(state, command);
  }
}

void Handle(CoreState& state, const Event& event) {
  std::visit(
      Overloaded{
          [&](const RegisteredEvent& e) { OnRegistered(state, e); },
          [&](const StreamUpEvent&) { OnStreamUp(state); },
          [&](const StreamDownEvent&) { OnStreamDown(state); },
          [&](const CommandEvent& e) { OnCommand(state, e.command); },
          [](const TickEvent&) {},  // Deadlines are looked at in Settle.
          [&](const BufferAllocatedEvent& e) {
            state.buffers.Answer(e.buffer, e.status);
          },
          [&](const TakeMemoryRequest& e) { OnTakeMemory(state, e); },
          [&](const MemoryReturnedEvent& e) { OnMemoryReturned(state, e); },
          [&](const ExecutionPreparedEvent& e) {
            OnExecutionPrepared(state, e);
          },
          [&](const ExecutionProgressEvent& e) { OnProgress(state, e); },
          [&](const ExecutionDoneEvent& e) { OnExecutionDone(state, e); },
          [&](const LoadDoneEvent& e) { OnLoadDone(state, e); },
          [&](const DigestsReadEvent& e) { OnDigestsRead(state, e); },
          [&](const AttachRequest& e) { OnAttach(state, e); },
          [&](const SessionGoneEvent& e) { OnSessionGone(state, e); },
          [&](const CallerGoneEvent& e) { OnCallerGone(state, e); },
          [&](const GetPlacementRequest& e) { OnGetPlacement(state, e); },
          [&](const LendMemoryRequest& e) { OnLendMemory(state, e); },
          [&](const BeginWriteRequest& e) { OnBeginWrite(state, e); },
          [&](const AcknowledgeOverwriteRequest& e) {
            OnAcknowledgeOverwrite(state, e);
          },
          [&](const EndWriteRequest& e) { OnEndWrite(state, e); },
          [&](const PinRequest& e) { OnPin(state, e); },
          [&](const UnpinRequest& e) { OnUnpin(state, e); },
          [&](const ReserveSamplesRequest& e) { OnReserveSamples(state, e); },
          [&](const CommitSamplesRequest& e) { OnCommitSamples(state, e); },
          [&](const GetSamplesRequest& e) { OnGetSamples(state, e); }},
      event);
}

// Goes on with everything that waits, until nothing changes any more.
void Settle(CoreState& state) {
  bool changed = true;
  while (changed) {
    changed = FinishDefinitions(state);
    changed = PlaceReservations(state) || changed;
    changed = DropEndedMemory(state) || changed;
    changed = BindWaiting(state) || changed;
    changed = OpenBrackets(state) || changed;
    changed = GivePins(state) || changed;
    changed = ExpireOperations(state) || changed;
    changed = ExpireNews(state) || changed;
  }
  state.buffers.FreeDoomed(state.out);
}

}  // namespace

struct AgentCore::State {
  explicit State(AgentOptions options) : core(std::move(options)) {}
  CoreState core;
};

AgentCore::AgentCore(AgentOptions options) {
  SLUICE_CHECK_OK(options.Validate());
  state_ = std::make_unique<State>(std::move(options));
}

AgentCore::~AgentCore() = default;

std::vector<Effect> AgentCore::Step(absl::Time now, const Event& event) {
  CoreState& state = state_->core;
  state.now = now;
  Handle(state, event);
  Settle(state);
  return state.out.Take();
}

bool AgentCore::Idle() const {
  for (const auto& [id, operation] : state_->core.operations.all()) {
    if (operation.active()) return false;
  }
  return true;
}

}  // namespace sluice::agent
