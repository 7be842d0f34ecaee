#ifndef SLUICE_TOOLS_REFERENCE_CASES_DISPATCH_ANSWERS_H_
#define SLUICE_TOOLS_REFERENCE_CASES_DISPATCH_ANSWERS_H_

// Answers about calls of models on batches: topic dispatch. Members of another
// type throw nlohmann::json::exception.

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"

namespace sluice::reference_cases {

// Calls (`rpcs`) one after the other on one storage. `buf_indices` of a call
// may be left out; "rule": "balanced" asks for Sluice's own division.
absl::StatusOr<nlohmann::json> AnswerDispatch(const nlohmann::json& question);

}  // namespace sluice::reference_cases

#endif  // SLUICE_TOOLS_REFERENCE_CASES_DISPATCH_ANSWERS_H_
