#ifndef SLUICE_AGENT_CORE_STREAM_H_
#define SLUICE_AGENT_CORE_STREAM_H_

// The coordinator's command stream: who may command (epoch, cluster,
// incarnation), what was commanded already, answers and the inventory.

#include "absl/status/status.h"
#include "agent/core/core_state.h"
#include "agent/core/events.h"
#include "common/command.h"

namespace sluice::agent {

void OnRegistered(CoreState& state, const RegisteredEvent& event);
void OnStreamUp(CoreState& state);
void OnStreamDown(CoreState& state);

// Whether the command comes from the present coordinator; else orders
// CloseStream (ABORTED: older epoch, other cluster, incarnation or rank;
// FAILED_PRECONDITION: no Welcome before it). A Welcome of a higher epoch is
// admitted; see OnWelcome.
bool Fence(CoreState& state, const Command& command);

// Accepts the coordinator: raises the epoch, sends the inventory and whatever
// the coordinator may have missed (votes, stops, news).
// The caller has ended the old epoch's operations.
void OnWelcome(CoreState& state, const Command& command);

// Whether the command is to be executed: not if it is running or was answered
// (then it is answered again).
bool IsNew(CoreState& state, const Command& command);

// Answers a command of this epoch; dropped if a newer coordinator rules.
void Answer(CoreState& state, Epoch epoch, CommandId id,
            const absl::Status& outcome);

// As Answer with OK, but the answer is an event that is sure to follow (the
// vote or stop of an operation): a message less. A repeated command is
// answered.
void AnswerLater(CoreState& state, Epoch epoch, CommandId id);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_STREAM_H_
