#include "coordinator/services/status_service.h"

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/convert_limits.h"
#include "common/daemon.h"
#include "common/status_macros.h"
#include "coordinator/services/calls.h"
#include "coordinator/services/convert_status.h"

namespace sluice::coordinator {
namespace {

constexpr int32_t kDefaultEvents = 20;
constexpr int32_t kMaxEvents = 10000;

absl::StatusOr<StatusRequest> Decode(const v1::GetStatusRequest& proto) {
  SLUICE_RETURN_IF_ERROR(
      CheckRange("max_events", proto.max_events(), 0, kMaxEvents));
  StatusRequest request;
  request.max_events =
      proto.max_events() == 0 ? kDefaultEvents : proto.max_events();
  return request;
}

}  // namespace

grpc::ServerUnaryReactor* StatusService::GetStatus(
    grpc::CallbackServerContext*, const v1::GetStatusRequest* request,
    v1::GetStatusResponse* response) {
  return StartUnary<StatusSnapshot>(
      host_, Decode(*request), response,
      [](const StatusSnapshot& snapshot, v1::GetStatusResponse& out) {
        out = ToProto(snapshot);
        const ProcessUsage usage = ReadProcessUsage();
        out.set_coordinator_rss_bytes(usage.rss_bytes);
        out.set_coordinator_cpu_seconds(usage.cpu_seconds);
      });
}

grpc::ServerWriteReactor<v1::Event>* StatusService::WatchEvents(
    grpc::CallbackServerContext*, const v1::WatchEventsRequest* request) {
  return new EventsCall(host_, request->after_revision());
}

}  // namespace sluice::coordinator
