#ifndef SLUICE_TOOLS_REFERENCE_CASES_RANK_ANSWERS_H_
#define SLUICE_TOOLS_REFERENCE_CASES_RANK_ANSWERS_H_

// Answers about ranks: topology, grid, rank_mapping, sync_groups. Members of
// another type throw nlohmann::json::exception.

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"

namespace sluice::reference_cases {

absl::StatusOr<nlohmann::json> AnswerTopology(const nlohmann::json& question);
absl::StatusOr<nlohmann::json> AnswerGrid(const nlohmann::json& question);
absl::StatusOr<nlohmann::json> AnswerRankMapping(
    const nlohmann::json& question);
absl::StatusOr<nlohmann::json> AnswerSyncGroups(const nlohmann::json& question);

}  // namespace sluice::reference_cases

#endif  // SLUICE_TOOLS_REFERENCE_CASES_RANK_ANSWERS_H_
