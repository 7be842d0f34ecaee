#ifndef SLUICE_COORDINATOR_CONVERT_OPERATION_H_
#define SLUICE_COORDINATOR_CONVERT_OPERATION_H_

// proto/sluice/v1/operation.proto <-> coordinator/core/operation_types.h. Both
// ways only for results, which the store keeps.

#include "absl/status/statusor.h"
#include "common/convert_plan.h"
#include "coordinator/core/operation_types.h"
#include "proto/sluice/v1/operation.pb.h"

namespace sluice::coordinator {

// Without these the overloads below would hide those of the namespace above.
using sluice::FromProto;
using sluice::ToProto;

v1::OperationKind ToProto(OperationKind kind);
v1::OperationPhase ToProto(OperationPhase phase);
v1::OperationResult ToProto(const OperationResult& result);
v1::OperationUpdate ToProto(const OperationUpdate& update);
v1::OperationInfo ToProto(const OperationInfo& info);

// Unspecified is kCancel. Errors: INVALID_ARGUMENT - unknown.
absl::StatusOr<CallerLossPolicy> FromProto(v1::CallerLossPolicy proto);
absl::StatusOr<Transport> FromProto(v1::Transport proto);
// Errors: INVALID_ARGUMENT - an unknown phase, a negative or infinite number.
absl::StatusOr<OperationResult> FromProto(const v1::OperationResult& proto);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CONVERT_OPERATION_H_
