#ifndef SLUICE_TOOLS_QUICKSTART_PARAMETER_STEPS_H_
#define SLUICE_TOOLS_QUICKSTART_PARAMETER_STEPS_H_

// The quickstart's steps with weights: place, load, train, sync, check.

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/quickstart/session.h"

namespace sluice::quickstart {

// Works out model, layouts and meshes from the checkpoint.
// Errors: as ModelFromDirectory, ResolvePreset, CheckLayout.
absl::Status PlanPlacements(Session& session);

// Memory an agent needs for them, in bytes (two copies of what it owns).
absl::StatusOr<int64_t> AgentMemoryNeeded(const Session& session);

// Registers model and placements; starts the workers, which lend memory.
absl::Status Place(Session& session);

// Loads the checkpoint into the trainer's memory and checks every byte.
absl::Status Load(Session& session);

// The workers change all weights: one more exact step. Returns the version.
absl::StatusOr<uint64_t> Train(Session& session, int64_t step);

// Syncs trainer -> rollout and checks every byte of every rollout agent;
// `sign_flips` is how often the weights were changed.
absl::Status Sync(Session& session, const std::string& name, int sign_flips);

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_PARAMETER_STEPS_H_
