#ifndef SLUICE_COORDINATOR_SERVICES_CONVERT_STATUS_H_
#define SLUICE_COORDINATOR_SERVICES_CONVERT_STATUS_H_

// What people see of the cluster: operation_types.h -> messages of
// {status,model,catalog}_service.proto. One way only.

#include <cstddef>
#include <cstdint>

#include "coordinator/core/effects.h"
#include "coordinator/core/operation_types.h"
#include "proto/sluice/v1/catalog_service.pb.h"
#include "proto/sluice/v1/model_service.pb.h"
#include "proto/sluice/v1/status_service.pb.h"

namespace sluice::coordinator {

// At most so many transfers of a plan are listed to a client.
inline constexpr int kMaxListedTransfers = 10000;
// At most so many warnings, and of each so many bytes.
inline constexpr size_t kMaxListedWarnings = 1000;
inline constexpr int64_t kMaxWarningBytes = 1024;

v1::AgentStatus ToProto(const AgentStatus& agent);
v1::PlacementStatus ToProto(const PlacementStatus& placement);
v1::ModelStatus ToProto(const ModelStatus& model);
v1::Event ToProto(const StatusEvent& event);
v1::GetStatusResponse ToProto(const StatusSnapshot& snapshot);
v1::SampleLocation ToProto(const SampleLocation& location);
// Sets all of a PlanSyncResponse or a
// PlanRedistributionResponse.
void FillPlan(const PlanReply& reply, v1::PlanSyncResponse& response);
void FillPlan(const PlanReply& reply, v1::PlanRedistributionResponse& response);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_SERVICES_CONVERT_STATUS_H_
