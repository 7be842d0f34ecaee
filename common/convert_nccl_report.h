#ifndef SLUICE_COMMON_CONVERT_NCCL_REPORT_H_
#define SLUICE_COMMON_CONVERT_NCCL_REPORT_H_

// NcclReport of proto/sluice/v1/membership_service.proto <->
// common/nccl_report.h.

#include "absl/status/statusor.h"
#include "common/nccl_report.h"
#include "proto/sluice/v1/membership_service.pb.h"

namespace sluice {

// Errors are made valid UTF-8 of at most kMaxCommunicatorErrorBytes.
v1::NcclReport ToProto(const NcclReport& report);

// Errors: INVALID_ARGUMENT - names the field, what was expected and found.
absl::StatusOr<NcclReport> FromProto(const v1::NcclReport& proto);

}  // namespace sluice

#endif  // SLUICE_COMMON_CONVERT_NCCL_REPORT_H_
