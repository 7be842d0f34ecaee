#ifndef SLUICE_AGENT_CORE_PREPARE_H_
#define SLUICE_AGENT_CORE_PREPARE_H_

// How an operation gets hold of what it touches: Prepare, Load, ReadDigests.
// Nothing moves here; whoever waits does so with a deadline that names whom it
// waits for.

#include "agent/core/core_state.h"
#include "agent/core/events.h"
#include "common/command.h"

namespace sluice::agent {

void OnPrepare(CoreState& state, const Command& command,
               const PrepareCommand& prepare);
void OnLoad(CoreState& state, const Command& command, const LoadCommand& load);
void OnReadDigests(CoreState& state, const Command& command,
                   const ReadDigestsCommand& read);

// Binds waiting operations whose memory is free now, refuses those that cannot
// get it or have waited too long; returns whether there were any.
bool BindWaiting(CoreState& state);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_PREPARE_H_
