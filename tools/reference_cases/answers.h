#ifndef SLUICE_TOOLS_REFERENCE_CASES_ANSWERS_H_
#define SLUICE_TOOLS_REFERENCE_CASES_ANSWERS_H_

// What the reference behaviours (coordinator/planner/reference) answer to a
// question in JSON. Questions and answers have the members of the golden
// vectors (tests/golden/vectors/README.md); members that are answers there are
// ignored in a question.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::reference_cases {

// The topics there are: topology, grid, factors, storage, gather_scatter,
// bcast, datapack, split, dispatch, rank_mapping, rank_mapping_hep,
// sync_groups, bucketer.
std::vector<std::string> Topics();

// Returns the answer's members.
// Errors: INVALID_ARGUMENT - no such topic, a member missing or of another type
// (named); as the behaviour itself.
absl::StatusOr<nlohmann::json> Answer(absl::string_view topic,
                                      const nlohmann::json& question);

}  // namespace sluice::reference_cases

#endif  // SLUICE_TOOLS_REFERENCE_CASES_ANSWERS_H_
