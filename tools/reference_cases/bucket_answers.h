#ifndef SLUICE_TOOLS_REFERENCE_CASES_BUCKET_ANSWERS_H_
#define SLUICE_TOOLS_REFERENCE_CASES_BUCKET_ANSWERS_H_

// Answers about reduce-scatter bucketing: topic bucketer. Members of another
// type throw nlohmann::json::exception.

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"

namespace sluice::reference_cases {

// What goes when, in which order callbacks fire, the buckets at the end, and by
// simulating all ranks each rank's results. A world's results may be some 2^24
// values at most.
absl::StatusOr<nlohmann::json> AnswerBucketer(const nlohmann::json& question);

}  // namespace sluice::reference_cases

#endif  // SLUICE_TOOLS_REFERENCE_CASES_BUCKET_ANSWERS_H_
