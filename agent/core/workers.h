#ifndef SLUICE_AGENT_CORE_WORKERS_H_
#define SLUICE_AGENT_CORE_WORKERS_H_

// Attached workers: sessions, memory they lend, write brackets.

#include "agent/core/core_state.h"
#include "agent/core/events.h"

namespace sluice::agent {

void OnAttach(CoreState& state, const AttachRequest& request);
// Releases its pins and reservations, tears what it was writing. Memory that it
// lent stays, unless it ends with the worker: then its content is lost, and
// what uses it and has not voted is stopped.
void OnSessionGone(CoreState& state, const SessionGoneEvent& event);
// Nobody waits for the call any more.
void OnCallerGone(CoreState& state, const CallerGoneEvent& event);

void OnLendMemory(CoreState& state, const LendMemoryRequest& request);
void OnBeginWrite(CoreState& state, const BeginWriteRequest& request);
void OnEndWrite(CoreState& state, const EndWriteRequest& request);

// Drops memory that has ended with its worker and is not being filled any more;
// returns whether there was any.
bool DropEndedMemory(CoreState& state);

// Opens brackets whose copies nobody reads any more, refuses those that waited
// too long; returns whether there were any.
bool OpenBrackets(CoreState& state);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_WORKERS_H_
