#include "coordinator/services/membership_service.h"

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/convert_limits.h"
#include "common/convert_nccl_report.h"
#include "common/convert_reduce_report.h"
#include "common/convert_repeated.h"
#include "common/convert_time.h"
#include "common/status_macros.h"
#include "coordinator/services/calls.h"

namespace sluice::coordinator {
namespace {

// Fields of Heartbeat and Drain.
template <typename Event, typename Proto>
absl::StatusOr<Event> DecodeLife(const Proto& proto) {
  Event event;
  SLUICE_RETURN_IF_ERROR(CheckName("name", proto.name(), kMaxAgentNameBytes));
  event.name = proto.name();
  if (proto.incarnation() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "agent \"", proto.name(), "\": incarnation: expected not 0"));
  }
  event.incarnation = Incarnation(proto.incarnation());
  return event;
}

absl::StatusOr<RegisterAgentEvent> Decode(const v1::RegisterRequest& proto) {
  SLUICE_ASSIGN_OR_RETURN(RegisterAgentEvent event,
                          DecodeLife<RegisterAgentEvent>(proto));
  SLUICE_RETURN_IF_ERROR(CheckName("node", proto.node(), kMaxNodeNameBytes));
  event.node = proto.node();
  SLUICE_RETURN_IF_ERROR(
      CheckName("address", proto.address(), kMaxAddressBytes));
  event.address = proto.address();
  SLUICE_RETURN_IF_ERROR(
      CheckText("socket_path", proto.socket_path(), kMaxPathBytes));
  event.socket_path = proto.socket_path();
  SLUICE_RETURN_IF_ERROR(
      CheckCount("network_address bytes",
                 static_cast<int64_t>(proto.network_address().size()),
                 kMaxNetworkAddressBytes));
  event.network_address = proto.network_address();
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("memory_bytes", proto.memory_bytes()));
  event.memory_bytes = proto.memory_bytes();
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("staging_bytes", proto.staging_bytes()));
  event.staging_bytes = proto.staging_bytes();
  SLUICE_RETURN_IF_ERROR(
      CheckText("cluster_id", proto.cluster_id(), kMaxClusterIdBytes));
  event.cluster_id = proto.cluster_id();
  SLUICE_RETURN_IF_ERROR(
      CheckText("device", proto.device(), kMaxAgentNameBytes));
  event.device = proto.device();
  SLUICE_RETURN_IF_ERROR(CheckText("device_description",
                                   proto.device_description(), kMaxPathBytes));
  event.device_description = proto.device_description();
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("nccl_version", proto.nccl_version()));
  event.nccl_version = proto.nccl_version();
  SLUICE_RETURN_IF_ERROR(
      CheckText("nccl_device", proto.nccl_device(), kMaxPathBytes));
  event.nccl_device = proto.nccl_device();
  SLUICE_RETURN_IF_ERROR(
      CheckText("boot_id", proto.boot_id(), kMaxAgentNameBytes));
  event.boot_id = proto.boot_id();
  SLUICE_RETURN_IF_ERROR(CheckNotNegative("pid", proto.pid()));
  event.pid = proto.pid();
  return event;
}

absl::StatusOr<HeartbeatEvent> Decode(const v1::HeartbeatRequest& proto) {
  SLUICE_ASSIGN_OR_RETURN(HeartbeatEvent event,
                          DecodeLife<HeartbeatEvent>(proto));
  SLUICE_RETURN_IF_ERROR(ParseRepeated(
      "reduce_groups", proto.reduce_groups(), kMaxReduceGroupReports,
      [](const v1::ReduceGroupReport& report) {
        return sluice::FromProto(report);
      },
      event.reduce_groups));
  SLUICE_ASSIGN_OR_RETURN(event.nccl, sluice::FromProto(proto.nccl()));
  return event;
}

void Encode(const RegisterAgentReply& reply, v1::RegisterResponse& out) {
  out.set_rank(reply.rank.value());
  out.set_epoch(reply.epoch.value());
  out.set_cluster_id(reply.cluster_id);
  *out.mutable_lease() = sluice::ToProto(reply.lease);
  *out.mutable_heartbeat_interval() = sluice::ToProto(reply.heartbeat_interval);
}

}  // namespace

grpc::ServerUnaryReactor* MembershipService::Register(
    grpc::CallbackServerContext*, const v1::RegisterRequest* request,
    v1::RegisterResponse* response) {
  return StartUnary<RegisterAgentReply>(host_, Decode(*request), response,
                                        &Encode);
}

grpc::ServerUnaryReactor* MembershipService::Heartbeat(
    grpc::CallbackServerContext*, const v1::HeartbeatRequest* request,
    v1::HeartbeatResponse* response) {
  return StartUnary<HeartbeatReply>(
      host_, Decode(*request), response,
      [](const HeartbeatReply& reply, v1::HeartbeatResponse& out) {
        out.set_epoch(reply.epoch.value());
      });
}

grpc::ServerUnaryReactor* MembershipService::Drain(
    grpc::CallbackServerContext*, const v1::DrainRequest* request,
    v1::DrainResponse* response) {
  return StartUnary<DrainReply>(host_, DecodeLife<DrainEvent>(*request),
                                response,
                                [](const DrainReply&, v1::DrainResponse&) {});
}

}  // namespace sluice::coordinator
