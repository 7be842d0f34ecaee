#include "coordinator/services/model_service.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/convert_command.h"
#include "common/convert_layout.h"
#include "common/convert_limits.h"
#include "common/convert_repeated.h"
#include "common/convert_tensor.h"
#include "common/status_macros.h"
#include "coordinator/convert_operation.h"
#include "coordinator/services/calls.h"
#include "coordinator/services/convert_status.h"
#include "coordinator/services/request.h"

namespace sluice::coordinator {
namespace {

// Sets model and placement of a request that names both.
template <typename Proto, typename Request>
absl::Status ParsePlacement(const Proto& proto, Request& request) {
  SLUICE_RETURN_IF_ERROR(CheckName("model", proto.model(), kMaxModelNameBytes));
  request.model = proto.model();
  SLUICE_RETURN_IF_ERROR(
      CheckName("placement", proto.placement(), kMaxPlacementNameBytes));
  request.placement = proto.placement();
  return absl::OkStatus();
}

absl::StatusOr<RegisterModelRequest> Decode(
    const v1::RegisterModelRequest& proto) {
  RegisterModelRequest request;
  SLUICE_RETURN_IF_ERROR(ParseRequestId(proto, request));
  absl::StatusOr<ModelSpec> model = sluice::FromProto(proto.model());
  if (!model.ok()) return Annotate(model.status(), "model");
  request.model = *std::move(model);
  return request;
}

absl::StatusOr<RegisterPlacementRequest> Decode(
    const v1::RegisterPlacementRequest& proto) {
  RegisterPlacementRequest request;
  SLUICE_RETURN_IF_ERROR(ParseRequestId(proto, request));
  SLUICE_RETURN_IF_ERROR(ParsePlacement(proto, request));
  absl::StatusOr<NamedMesh> mesh = sluice::FromProto(proto.mesh());
  if (!mesh.ok()) return Annotate(mesh.status(), "mesh");
  request.axes = std::move(mesh->axes);
  request.agents = std::move(mesh->agents);
  absl::StatusOr<Layout> layout = sluice::FromProto(proto.layout());
  if (!layout.ok()) return Annotate(layout.status(), "layout");
  request.layout = *std::move(layout);
  request.storage = Storage::kArena;
  if (proto.storage() != v1::STORAGE_UNSPECIFIED) {
    SLUICE_ASSIGN_OR_RETURN(request.storage,
                            sluice::FromProto(proto.storage()));
  }
  return request;
}

absl::StatusOr<RemovePlacementRequest> Decode(
    const v1::RemovePlacementRequest& proto) {
  RemovePlacementRequest request;
  SLUICE_RETURN_IF_ERROR(ParseRequestId(proto, request));
  SLUICE_RETURN_IF_ERROR(ParsePlacement(proto, request));
  return request;
}

absl::StatusOr<GetModelRequest> Decode(const v1::GetModelRequest& proto) {
  SLUICE_RETURN_IF_ERROR(CheckName("model", proto.model(), kMaxModelNameBytes));
  return GetModelRequest{CallId(), proto.model()};
}

absl::StatusOr<LoadRequest> Decode(const v1::LoadRequest& proto) {
  LoadRequest request;
  OperationOptions& options = request.options;
  SLUICE_RETURN_IF_ERROR(ParseRequestId(proto, options));
  SLUICE_RETURN_IF_ERROR(ParsePlacement(proto, request));
  SLUICE_RETURN_IF_ERROR(
      CheckName("directory", proto.directory(), kMaxPathBytes));
  if (!absl::StartsWith(proto.directory(), "/")) {
    return absl::InvalidArgumentError(
        absl::StrCat("directory: expected an absolute path, found \"",
                     proto.directory(), "\""));
  }
  request.directory = proto.directory();
  SLUICE_ASSIGN_OR_RETURN(options.on_caller_loss,
                          FromProto(proto.on_caller_loss()));
  SLUICE_RETURN_IF_ERROR(ParseOptionalDuration(
      "deadline", proto.has_deadline(), proto.deadline(), options.deadline));
  return request;
}

absl::Status ParseTimes(const v1::SyncRequest& proto,
                        OperationOptions& options) {
  SLUICE_RETURN_IF_ERROR(ParseOptionalDuration(
      "deadline", proto.has_deadline(), proto.deadline(), options.deadline));
  SLUICE_RETURN_IF_ERROR(
      ParseOptionalDuration("wait_deadline", proto.has_wait_deadline(),
                            proto.wait_deadline(), options.wait_deadline));
  return ParseOptionalDuration("progress_timeout", proto.has_progress_timeout(),
                               proto.progress_timeout(),
                               options.progress_timeout);
}

absl::StatusOr<Pattern> DecodePattern(v1::Pattern proto) {
  switch (proto) {
    case v1::PATTERN_UNSPECIFIED:
    case v1::PATTERN_DIRECT:
      return Pattern::kDirect;
    case v1::PATTERN_TWO_STAGE:
      return Pattern::kTwoStage;
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          "pattern: expected DIRECT or TWO_STAGE, found ",
          v1::Pattern_IsValid(proto) ? v1::Pattern_Name(proto)
                                     : absl::StrCat(static_cast<int>(proto))));
  }
}

absl::StatusOr<SyncRequest> Decode(const v1::SyncRequest& proto,
                                   bool plan_only) {
  SyncRequest request;
  OperationOptions& options = request.options;
  SLUICE_RETURN_IF_ERROR(ParseRequestId(proto, options));
  SLUICE_RETURN_IF_ERROR(CheckName("model", proto.model(), kMaxModelNameBytes));
  request.model = proto.model();
  SLUICE_RETURN_IF_ERROR(
      CheckName("source", proto.source(), kMaxPlacementNameBytes));
  request.source = proto.source();
  if (proto.destinations().empty()) {
    return absl::InvalidArgumentError(
        "destinations: expected at least one, found none");
  }
  SLUICE_RETURN_IF_ERROR(ParseNames("destinations", proto.destinations(),
                                    kMaxDestinations, kMaxPlacementNameBytes,
                                    request.destinations));
  SLUICE_ASSIGN_OR_RETURN(request.pattern, DecodePattern(proto.pattern()));
  SLUICE_ASSIGN_OR_RETURN(options.transport, FromProto(proto.transport()));
  options.digests = !proto.skip_digests();
  SLUICE_RETURN_IF_ERROR(
      CheckNotNegative("staging_bytes", proto.staging_bytes()));
  options.staging_bytes = proto.staging_bytes();
  SLUICE_ASSIGN_OR_RETURN(options.on_caller_loss,
                          FromProto(proto.on_caller_loss()));
  SLUICE_RETURN_IF_ERROR(ParseTimes(proto, options));
  request.plan_only = plan_only;
  return request;
}

absl::StatusOr<VerifyRequest> Decode(const v1::VerifyRequest& proto) {
  VerifyRequest request;
  SLUICE_RETURN_IF_ERROR(ParseRequestId(proto, request.options));
  SLUICE_RETURN_IF_ERROR(ParsePlacement(proto, request));
  SLUICE_RETURN_IF_ERROR(
      CheckText("against", proto.against(), kMaxPlacementNameBytes));
  request.against = proto.against();
  return request;
}

absl::StatusOr<CancelRequest> Decode(const v1::CancelOperationRequest& proto) {
  return CancelRequest{CallId(), OperationId(proto.operation())};
}

}  // namespace

grpc::ServerUnaryReactor* ModelService::RegisterModel(
    grpc::CallbackServerContext*, const v1::RegisterModelRequest* request,
    v1::RegisterModelResponse* response) {
  return StartUnary<RegisterModelReply>(
      host_, Decode(*request), response,
      [](const RegisterModelReply& reply, v1::RegisterModelResponse& out) {
        out.set_bytes(reply.bytes);
      });
}

grpc::ServerUnaryReactor* ModelService::RegisterPlacement(
    grpc::CallbackServerContext*, const v1::RegisterPlacementRequest* request,
    v1::RegisterPlacementResponse* response) {
  return StartUnary<RegisterPlacementReply>(
      host_, Decode(*request), response,
      [](const RegisterPlacementReply& reply,
         v1::RegisterPlacementResponse& out) {
        out.mutable_bytes()->Add(reply.bytes.begin(), reply.bytes.end());
        out.set_replicas(reply.replicas);
      });
}

grpc::ServerUnaryReactor* ModelService::RemovePlacement(
    grpc::CallbackServerContext*, const v1::RemovePlacementRequest* request,
    v1::RemovePlacementResponse* response) {
  return StartUnary<RemovePlacementReply>(
      host_, Decode(*request), response,
      [](const RemovePlacementReply&, v1::RemovePlacementResponse&) {});
}

grpc::ServerUnaryReactor* ModelService::GetModel(
    grpc::CallbackServerContext*, const v1::GetModelRequest* request,
    v1::GetModelResponse* response) {
  return StartUnary<GetModelReply>(
      host_, Decode(*request), response,
      [](const GetModelReply& reply, v1::GetModelResponse& out) {
        *out.mutable_model() = sluice::ToProto(reply.model);
        out.set_version(reply.version.value());
        AppendProtos(reply.placements, *out.mutable_placements());
      });
}

grpc::ServerWriteReactor<v1::OperationUpdate>* ModelService::Load(
    grpc::CallbackServerContext*, const v1::LoadRequest* request) {
  return OperationCall::Start(host_, Decode(*request));
}

grpc::ServerUnaryReactor* ModelService::PlanSync(
    grpc::CallbackServerContext*, const v1::SyncRequest* request,
    v1::PlanSyncResponse* response) {
  return StartUnary<PlanReply>(
      host_, Decode(*request, /*plan_only=*/true), response,
      [](const PlanReply& reply, v1::PlanSyncResponse& out) {
        FillPlan(reply, out);
      });
}

grpc::ServerWriteReactor<v1::OperationUpdate>* ModelService::Sync(
    grpc::CallbackServerContext*, const v1::SyncRequest* request) {
  return OperationCall::Start(host_, Decode(*request, /*plan_only=*/false));
}

grpc::ServerWriteReactor<v1::OperationUpdate>* ModelService::Verify(
    grpc::CallbackServerContext*, const v1::VerifyRequest* request) {
  return OperationCall::Start(host_, Decode(*request));
}

grpc::ServerUnaryReactor* ModelService::CancelOperation(
    grpc::CallbackServerContext*, const v1::CancelOperationRequest* request,
    v1::CancelOperationResponse* response) {
  return StartUnary<CancelReply>(
      host_, Decode(*request), response,
      [](const CancelReply&, v1::CancelOperationResponse&) {});
}

}  // namespace sluice::coordinator
