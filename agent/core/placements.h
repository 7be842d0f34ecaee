#ifndef SLUICE_AGENT_CORE_PLACEMENTS_H_
#define SLUICE_AGENT_CORE_PLACEMENTS_H_

// Definitions of placements, their arenas, and what workers are told of their
// versions.

#include "agent/core/core_state.h"
#include "agent/core/events.h"
#include "common/command.h"

namespace sluice::agent {

void OnDefinePlacement(CoreState& state, const Command& command,
                       const PlacementDefinition& definition);
void OnRemovePlacement(CoreState& state, const Command& command,
                       const PlacementRef& ref);
void OnVersionAssigned(CoreState& state, const Command& command,
                       const VersionAssignedCommand& assigned);
void OnGetPlacement(CoreState& state, const GetPlacementRequest& request);

// Answers definitions whose arenas are there or cannot be made; returns whether
// there were any.
bool FinishDefinitions(CoreState& state);

// Gives the content of a step its version, if it is still here.
bool AssignVersion(CoreState& state, Placement& placement, int64_t step,
                   Version version);

// Tells the workers that this version is current now.
void Tell(CoreState& state, const Placement& placement, Version version);

// Tells the workers the current version if it is not `told`.
void TellCurrentVersion(CoreState& state, const Placement& placement,
                        Version told);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_PLACEMENTS_H_
