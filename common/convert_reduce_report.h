#ifndef SLUICE_COMMON_CONVERT_REDUCE_REPORT_H_
#define SLUICE_COMMON_CONVERT_REDUCE_REPORT_H_

// ReduceGroupReport of proto/sluice/v1/membership_service.proto <->
// common/reduce_report.h.

#include "absl/status/statusor.h"
#include "common/reduce_report.h"
#include "proto/sluice/v1/membership_service.pb.h"

namespace sluice {

// The error is made valid UTF-8 of at most kMaxOutcomeMessageBytes.
v1::ReduceGroupReport ToProto(const ReduceGroupReport& report);

// Errors: INVALID_ARGUMENT - names the field, what was expected and found.
absl::StatusOr<ReduceGroupReport> FromProto(const v1::ReduceGroupReport& proto);

}  // namespace sluice

#endif  // SLUICE_COMMON_CONVERT_REDUCE_REPORT_H_
