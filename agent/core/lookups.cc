#include "agent/core/lookups.h"

#include "absl/strings/str_cat.h"

namespace sluice::agent {

absl::Status CheckSession(const CoreState& state, SessionId session) {
  if (state.sessions.count(session) > 0) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("session ", session.value(), " is not open on agent ",
                   state.options.name, ": attach again"));
}

absl::StatusOr<PlacementPtr> FindPlacement(const CoreState& state,
                                           const std::string& model,
                                           const std::string& placement) {
  PlacementPtr found = state.placements.Find(model, placement);
  if (found != nullptr) return found;
  return absl::NotFoundError(absl::StrCat("placement ", model, "/", placement,
                                          " is not defined on agent ",
                                          state.options.name));
}

}  // namespace sluice::agent
