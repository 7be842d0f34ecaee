#ifndef SLUICE_AGENT_CORE_MEMORY_H_
#define SLUICE_AGENT_CORE_MEMORY_H_

// Memory that the host makes and keeps by itself, such as the buckets of reduce
// groups: it counts against the agent's memory as placements and samples do.

#include "agent/core/core_state.h"
#include "agent/core/events.h"

namespace sluice::agent {

// Answered at once. Errors: RESOURCE_EXHAUSTED - names what is needed and what
// is free.
void OnTakeMemory(CoreState& state, const TakeMemoryRequest& request);
// Requires that so much was taken.
void OnMemoryReturned(CoreState& state, const MemoryReturnedEvent& event);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_MEMORY_H_
