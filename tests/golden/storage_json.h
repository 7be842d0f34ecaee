#ifndef SLUICE_TESTS_GOLDEN_STORAGE_JSON_H_
#define SLUICE_TESTS_GOLDEN_STORAGE_JSON_H_

// Storages, ids and steps as the vectors write them.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "coordinator/planner/reference/redistribution.h"
#include "coordinator/planner/reference/storage_tracker.h"
#include "tests/golden/case_check.h"

namespace sluice::golden {

// Ids are strings or integers, never both in a case. Integers are given to
// Sluice as strings that sort as the numbers do.
std::string ReadId(const Json& id);
std::vector<std::string> ReadIds(const Json& ids);
Json WriteId(const std::string& id);
Json WriteIds(absl::Span<const std::string> ids);

absl::StatusOr<coordinator::reference::StorageTracker> ReadStorage(
    const Json& state);
// `sort_keys`: without the order in which a rank got its keys.
Json WriteStorage(const coordinator::reference::StorageSnapshot& storage,
                  bool sort_keys = false);
// Sorts the keys in a state of the vectors.
Json SortKeys(Json state);

// A request of the topics gather_scatter and bcast.
coordinator::reference::RedistributionRequest ReadRequest(const Json& golden);
Json WriteSteps(const coordinator::reference::RedistributionSteps& plan);

}  // namespace sluice::golden

#endif  // SLUICE_TESTS_GOLDEN_STORAGE_JSON_H_
