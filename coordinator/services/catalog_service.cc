#include "coordinator/services/catalog_service.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/convert_limits.h"
#include "common/convert_repeated.h"
#include "common/status_macros.h"
#include "coordinator/convert_operation.h"
#include "coordinator/services/calls.h"
#include "coordinator/services/convert_status.h"
#include "coordinator/services/request.h"

namespace sluice::coordinator {
namespace {

constexpr int32_t kDefaultPage = 1000;
constexpr int32_t kMaxPage = 10000;
constexpr int64_t kMaxKeys = 1024;
constexpr int64_t kMaxWants = 65536;

template <typename Repeated>
absl::Status ParseIds(const Repeated& repeated, std::vector<std::string>& ids) {
  if (repeated.empty()) {
    return absl::InvalidArgumentError(
        "sample_ids: expected at least one, found none");
  }
  return ParseNames("sample_ids", repeated, kMaxSampleIds, kMaxSampleIdBytes,
                    ids);
}

absl::StatusOr<LocateRequest> Decode(const v1::LocateRequest& proto) {
  LocateRequest request;
  SLUICE_RETURN_IF_ERROR(ParseIds(proto.sample_ids(), request.sample_ids));
  SLUICE_RETURN_IF_ERROR(
      ParseNames("keys", proto.keys(), kMaxKeys, kMaxKeyBytes, request.keys));
  return request;
}

absl::StatusOr<ListSamplesRequest> Decode(const v1::ListSamplesRequest& proto) {
  ListSamplesRequest request;
  SLUICE_RETURN_IF_ERROR(
      CheckRange("page_size", proto.page_size(), 0, kMaxPage));
  request.page_size = proto.page_size() == 0 ? kDefaultPage : proto.page_size();
  SLUICE_RETURN_IF_ERROR(
      CheckText("page_token", proto.page_token(), kMaxSampleIdBytes));
  request.page_token = proto.page_token();
  return request;
}

absl::StatusOr<ClearRequest> Decode(const v1::ClearRequest& proto) {
  ClearRequest request;
  SLUICE_RETURN_IF_ERROR(ParseRequestId(proto, request));
  SLUICE_RETURN_IF_ERROR(ParseIds(proto.sample_ids(), request.sample_ids));
  request.keep_owners = proto.keep_owners();
  return request;
}

absl::StatusOr<WantSpec> DecodeWant(const v1::Want& proto) {
  WantSpec want;
  SLUICE_RETURN_IF_ERROR(ParseNames("agents", proto.agents(), kMaxMeshSize,
                                    kMaxAgentNameBytes, want.agents));
  SLUICE_RETURN_IF_ERROR(ParseIds(proto.sample_ids(), want.sample_ids));
  SLUICE_RETURN_IF_ERROR(
      ParseNames("keys", proto.keys(), kMaxKeys, kMaxKeyBytes, want.keys));
  return want;
}

absl::StatusOr<Pattern> DecodePattern(v1::Pattern proto) {
  if (!v1::Pattern_IsValid(proto) || proto == v1::PATTERN_UNSPECIFIED ||
      proto == v1::PATTERN_TWO_STAGE) {
    return absl::InvalidArgumentError(
        absl::StrCat("pattern: expected DIRECT, GATHER_SCATTER or BROADCAST, "
                     "found ",
                     static_cast<int>(proto)));
  }
  return static_cast<Pattern>(proto);
}

absl::StatusOr<RedistributeRequest> Decode(const v1::RedistributeRequest& proto,
                                           bool plan_only) {
  RedistributeRequest request;
  OperationOptions& options = request.options;
  SLUICE_RETURN_IF_ERROR(ParseRequestId(proto, options));
  if (proto.wants().empty()) {
    return absl::InvalidArgumentError(
        "wants: expected at least one, found none");
  }
  SLUICE_RETURN_IF_ERROR(ParseRepeated("wants", proto.wants(), kMaxWants,
                                       &DecodeWant, request.wants));
  SLUICE_ASSIGN_OR_RETURN(request.pattern, DecodePattern(proto.pattern()));
  SLUICE_ASSIGN_OR_RETURN(options.transport, FromProto(proto.transport()));
  options.digests = !proto.skip_digests();
  SLUICE_ASSIGN_OR_RETURN(options.on_caller_loss,
                          FromProto(proto.on_caller_loss()));
  SLUICE_RETURN_IF_ERROR(ParseOptionalDuration(
      "deadline", proto.has_deadline(), proto.deadline(), options.deadline));
  SLUICE_RETURN_IF_ERROR(ParseOptionalDuration(
      "progress_timeout", proto.has_progress_timeout(),
      proto.progress_timeout(), options.progress_timeout));
  request.plan_only = plan_only;
  return request;
}

}  // namespace

grpc::ServerUnaryReactor* CatalogService::Locate(
    grpc::CallbackServerContext*, const v1::LocateRequest* request,
    v1::LocateResponse* response) {
  return StartUnary<LocateReply>(
      host_, Decode(*request), response,
      [](const LocateReply& reply, v1::LocateResponse& out) {
        AppendProtos(reply.locations, *out.mutable_locations());
      });
}

grpc::ServerUnaryReactor* CatalogService::ListSamples(
    grpc::CallbackServerContext*, const v1::ListSamplesRequest* request,
    v1::ListSamplesResponse* response) {
  return StartUnary<ListSamplesReply>(
      host_, Decode(*request), response,
      [](const ListSamplesReply& reply, v1::ListSamplesResponse& out) {
        out.mutable_sample_ids()->Add(reply.sample_ids.begin(),
                                      reply.sample_ids.end());
        out.set_next_page_token(reply.next_page_token);
        out.set_total(reply.total);
      });
}

grpc::ServerUnaryReactor* CatalogService::Clear(grpc::CallbackServerContext*,
                                                const v1::ClearRequest* request,
                                                v1::ClearResponse* response) {
  return StartUnary<ClearReply>(
      host_, Decode(*request), response,
      [](const ClearReply& reply, v1::ClearResponse& out) {
        out.set_dropped(reply.dropped);
      });
}

grpc::ServerUnaryReactor* CatalogService::PlanRedistribution(
    grpc::CallbackServerContext*, const v1::RedistributeRequest* request,
    v1::PlanRedistributionResponse* response) {
  return StartUnary<PlanReply>(
      host_, Decode(*request, /*plan_only=*/true), response,
      [](const PlanReply& reply, v1::PlanRedistributionResponse& out) {
        FillPlan(reply, out);
      });
}

grpc::ServerWriteReactor<v1::OperationUpdate>* CatalogService::Redistribute(
    grpc::CallbackServerContext*, const v1::RedistributeRequest* request) {
  return OperationCall::Start(host_, Decode(*request, /*plan_only=*/false));
}

}  // namespace sluice::coordinator
