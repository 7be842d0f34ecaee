#ifndef SLUICE_TOOLS_REGISTRATION_REGISTRATION_H_
#define SLUICE_TOOLS_REGISTRATION_REGISTRATION_H_

// From what a user says (a checkpoint, a preset, "pipe=2,tensor=4") to what the
// coordinator is asked to register.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/layout.h"
#include "common/mesh.h"
#include "common/model.h"
#include "proto/sluice/v1/command.pb.h"
#include "proto/sluice/v1/model_service.pb.h"
#include "proto/sluice/v1/status_service.pb.h"

namespace sluice::registration {

// Parses "packed=3,other=-1". Errors: INVALID_ARGUMENT.
absl::StatusOr<std::map<std::string, int64_t>> ParseVariables(
    absl::string_view text);

// Returns the layout that `name` names: a preset, or a JSON file (when it holds
// a '/' or ends in ".json"), which may be a preset too. Variables in it get the
// values of `variables`.
// Errors: NOT_FOUND - no such preset or file; INVALID_ARGUMENT - as
// ResolvePreset and ParseLayout.
absl::StatusOr<Layout> FindLayout(
    const std::string& name, const ModelSpec& model,
    const std::map<std::string, int64_t>& variables);

// Returns the axes with those the layout names and the text lacks, of size 1: a
// mesh "tensor=4" is enough where nothing is replicated and there are no
// stages. Errors: INVALID_ARGUMENT - bad axes, or one the layout does not name.
absl::StatusOr<std::string> CompleteAxes(const Layout& layout,
                                         absl::string_view axes);

// Returns the mesh of these axes over these agents, of which the first ones are
// taken. Errors: INVALID_ARGUMENT - bad axes; FAILED_PRECONDITION - fewer
// agents than the mesh has positions.
absl::StatusOr<v1::Mesh> MakeMesh(absl::string_view axes,
                                  const std::vector<std::string>& agents);

// Names of agents that can be used (joining or alive), by rank.
std::vector<std::string> UsableAgents(const v1::GetStatusResponse& status);

v1::RegisterPlacementRequest PlacementRequest(const std::string& model,
                                              const std::string& placement,
                                              v1::Mesh mesh,
                                              const Layout& layout,
                                              v1::Storage storage);

}  // namespace sluice::registration

#endif  // SLUICE_TOOLS_REGISTRATION_REGISTRATION_H_
