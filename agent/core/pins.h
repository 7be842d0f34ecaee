#ifndef SLUICE_AGENT_CORE_PINS_H_
#define SLUICE_AGENT_CORE_PINS_H_

// Pins: a version that a worker reads stays readable and unchanged.

#include "agent/core/core_state.h"
#include "agent/core/events.h"

namespace sluice::agent {

void OnPin(CoreState& state, const PinRequest& request);
void OnUnpin(CoreState& state, const UnpinRequest& request);

// Answers pins that can be given now, those that never can, and those that
// waited too long for a decision; returns whether there were any.
bool GivePins(CoreState& state);

// The session ended: its pins are released, its waiting calls answered.
void ReleasePins(CoreState& state, SessionId session);
void ForgetPinCall(CoreState& state, CallId call);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_PINS_H_
