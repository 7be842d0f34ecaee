#ifndef SLUICE_AGENT_CORE_NEWS_H_
#define SLUICE_AGENT_CORE_NEWS_H_

// Events that the coordinator must get to know: told until acknowledged, while
// workers' calls wait for that.

#include <optional>

#include "agent/core/core_state.h"
#include "agent/core/events.h"
#include "common/command.h"

namespace sluice::agent {

// Tells a change of lent memory. `call`, if given, is answered with the ack's
// outcome, or UNAVAILABLE when no coordinator acknowledged it in time.
void TellWrite(CoreState& state, const PlacementPtr& placement,
               WriteEvent event, std::optional<CallId> call);

// Tells samples that a worker committed; sets the reservation's event id.
void TellSamples(CoreState& state, ReservationId id, CallId call);

// Lets `call` wait for the ack of a bracket's end that is not acknowledged yet;
// false if there is none of that step.
bool AwaitEnded(CoreState& state, const PlacementPtr& placement, int64_t step,
                CallId call);

void OnEventAck(CoreState& state, const EventAck& ack);
// Answers calls whose time is over; returns whether there were any.
bool ExpireNews(CoreState& state);
// Nobody waits for it any more.
void ForgetNewsCall(CoreState& state, CallId call);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_NEWS_H_
