#ifndef SLUICE_AGENT_CORE_LOOKUPS_H_
#define SLUICE_AGENT_CORE_LOOKUPS_H_

// What workers' calls name, with the errors that say it is not here.

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/core/core_state.h"
#include "agent/core/events.h"

namespace sluice::agent {

// Errors: NOT_FOUND.
absl::Status CheckSession(const CoreState& state, SessionId session);
// Errors: NOT_FOUND.
absl::StatusOr<PlacementPtr> FindPlacement(const CoreState& state,
                                           const std::string& model,
                                           const std::string& placement);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_LOOKUPS_H_
