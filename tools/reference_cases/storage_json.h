#ifndef SLUICE_TOOLS_REFERENCE_CASES_STORAGE_JSON_H_
#define SLUICE_TOOLS_REFERENCE_CASES_STORAGE_JSON_H_

// Storages, ids and steps as the golden vectors write them
// (tests/golden/vectors/README.md). Json members of another type throw
// nlohmann::json::exception.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/planner/reference/redistribution.h"
#include "coordinator/planner/reference/storage_tracker.h"
#include "coordinator/planner/reference/tracker_update.h"

namespace sluice::reference_cases {

using Json = nlohmann::json;

// Ids are strings or integers, never both in a case. Integers are given to
// Sluice as strings that sort as the numbers do.
std::string ReadId(const Json& id);
// Returns a message with such strings written as the integers they stand for.
std::string WithReadableIds(const std::string& message);
std::vector<std::string> ReadIds(const Json& ids);
Json WriteId(const std::string& id);
Json WriteIds(absl::Span<const std::string> ids);

absl::StatusOr<coordinator::reference::StorageTracker> ReadStorage(
    const Json& state);
Json WriteStorage(const coordinator::reference::StorageSnapshot& storage);
// Returns a written state without the order in which a rank got its keys.
Json SortKeys(Json state);

std::vector<Rank> ReadRanks(const Json& ranks);
Json WriteRanks(absl::Span<const Rank> ranks);
// The job of `axes`, `dims` and `rank_to_worker`.
absl::StatusOr<coordinator::reference::Workers> ReadWorkers(const Json& job);

// A request of the topics gather_scatter and bcast.
coordinator::reference::RedistributionRequest ReadRequest(const Json& golden);
Json WriteSteps(const coordinator::reference::RedistributionSteps& plan);

}  // namespace sluice::reference_cases

#endif  // SLUICE_TOOLS_REFERENCE_CASES_STORAGE_JSON_H_
