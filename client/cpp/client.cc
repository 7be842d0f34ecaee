#include "client/cpp/client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <random>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/retry.h"
#include "common/status_grpc.h"
#include "proto/sluice/v1/catalog_service.grpc.pb.h"
#include "proto/sluice/v1/model_service.grpc.pb.h"
#include "proto/sluice/v1/status_service.grpc.pb.h"

namespace sluice {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(20);
constexpr absl::Duration kLargestBackoff = absl::Milliseconds(500);
// Room for the coordinator's own deadline to answer first.
constexpr absl::Duration kDeadlineSlack = absl::Seconds(5);
constexpr int kMaxMessageBytes = 64 << 20;
// A coordinator whose machine is gone without a word is noticed after both.
constexpr absl::Duration kKeepaliveTime = absl::Seconds(10);
constexpr absl::Duration kKeepaliveTimeout = absl::Seconds(5);

std::string NewRequestId() {
  absl::BitGen random;
  return absl::StrFormat("%016x%016x", absl::Uniform<uint64_t>(random),
                         absl::Uniform<uint64_t>(random));
}

template <typename Request>
void EnsureRequestId(Request& request) {
  if (request.request_id().empty()) request.set_request_id(NewRequestId());
}

absl::Duration DeadlineOf(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) +
         absl::Nanoseconds(duration.nanos());
}

}  // namespace

struct Client::Impl {
  ClientOptions options;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::ModelService::Stub> models;
  std::unique_ptr<v1::CatalogService::Stub> catalog;
  std::unique_ptr<v1::StatusService::Stub> status;

  // One try of a call.
  struct Attempt {
    grpc::ClientContext context;
    // The coordinator said something before the try failed.
    bool heard = false;
  };

  // Runs `attempt` until it succeeds, fails for good, or retry_for has passed
  // since the coordinator last said something.
  absl::Status Retry(
      absl::Duration deadline,
      const std::function<grpc::Status(Attempt&)>& try_call) const {
    absl::Time give_up = absl::Now() + options.retry_for;
    absl::Duration backoff = kFirstBackoff;
    for (;;) {
      Attempt attempt;
      attempt.context.set_deadline(absl::ToChronoTime(absl::Now() + deadline));
      const absl::Status answer = FromGrpcStatus(try_call(attempt));
      if (!IsRetryable(answer)) return answer;
      if (attempt.heard) {
        give_up = absl::Now() + options.retry_for;
        backoff = kFirstBackoff;
      }
      if (absl::Now() + backoff > give_up) return answer;
      absl::SleepFor(backoff);
      backoff = std::min(backoff * 2, kLargestBackoff);
    }
  }

  // One short call of `method` of `stub`.
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(
      Stub& stub,
      grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                   Response*),
      const Request& request) const {
    Response response;
    const absl::Status answer =
        Retry(options.rpc_deadline, [&](Attempt& attempt) {
          response.Clear();
          return (stub.*method)(&attempt.context, request, &response);
        });
    if (!answer.ok()) return answer;
    return response;
  }

  // A long operation: reads updates until the end, or until the stream breaks.
  template <typename Open>
  absl::StatusOr<v1::OperationResult> Run(absl::Duration deadline,
                                          const Progress& progress,
                                          const Open& open) const {
    if (deadline <= absl::ZeroDuration()) deadline = options.operation_deadline;
    v1::OperationResult result;
    bool have_result = false;
    const absl::Status answer =
        Retry(deadline + kDeadlineSlack, [&](Attempt& attempt) {
          auto reader = open(attempt.context);
          v1::OperationUpdate update;
          while (reader->Read(&update)) {
            attempt.heard = true;
            if (progress) progress(update);
            if (!update.has_result()) continue;
            result = update.result();
            have_result = true;
          }
          return reader->Finish();
        });
    if (!answer.ok()) return answer;
    if (!have_result) {
      return absl::InternalError("operation ended without a result");
    }
    return result;
  }
};

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(ClientOptions options) {
  if (options.address.empty()) {
    return absl::InvalidArgumentError("coordinator address is empty");
  }
  auto impl = std::make_unique<Impl>();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  // In truth the time one attempt may take: a busy machine needs its while.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(kKeepaliveTime)));
  arguments.SetInt(
      GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
      static_cast<int>(absl::ToInt64Milliseconds(kKeepaliveTimeout)));
  impl->channel = grpc::CreateCustomChannel(
      options.address, grpc::InsecureChannelCredentials(), arguments);
  impl->models = v1::ModelService::NewStub(impl->channel);
  impl->catalog = v1::CatalogService::NewStub(impl->channel);
  impl->status = v1::StatusService::NewStub(impl->channel);
  impl->options = std::move(options);
  return std::unique_ptr<Client>(new Client(std::move(impl)));
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

absl::StatusOr<v1::RegisterModelResponse> Client::RegisterModel(
    v1::RegisterModelRequest request) {
  EnsureRequestId(request);
  return impl_->Call(*impl_->models, &v1::ModelService::Stub::RegisterModel,
                     request);
}

absl::StatusOr<v1::RegisterPlacementResponse> Client::RegisterPlacement(
    v1::RegisterPlacementRequest request) {
  EnsureRequestId(request);
  return impl_->Call(*impl_->models, &v1::ModelService::Stub::RegisterPlacement,
                     request);
}

absl::StatusOr<v1::RemovePlacementResponse> Client::RemovePlacement(
    v1::RemovePlacementRequest request) {
  EnsureRequestId(request);
  return impl_->Call(*impl_->models, &v1::ModelService::Stub::RemovePlacement,
                     request);
}

absl::StatusOr<v1::GetModelResponse> Client::GetModel(
    const std::string& model) {
  v1::GetModelRequest request;
  request.set_model(model);
  return impl_->Call(*impl_->models, &v1::ModelService::Stub::GetModel,
                     request);
}

absl::StatusOr<v1::PlanSyncResponse> Client::PlanSync(
    const v1::SyncRequest& request) {
  return impl_->Call(*impl_->models, &v1::ModelService::Stub::PlanSync,
                     request);
}

absl::StatusOr<v1::CancelOperationResponse> Client::CancelOperation(
    uint64_t operation) {
  v1::CancelOperationRequest request;
  request.set_operation(operation);
  return impl_->Call(*impl_->models, &v1::ModelService::Stub::CancelOperation,
                     request);
}

absl::StatusOr<v1::OperationResult> Client::Load(v1::LoadRequest request,
                                                 const Progress& progress) {
  EnsureRequestId(request);
  return impl_->Run(DeadlineOf(request.deadline()), progress,
                    [&](grpc::ClientContext& context) {
                      return impl_->models->Load(&context, request);
                    });
}

absl::StatusOr<v1::OperationResult> Client::Sync(v1::SyncRequest request,
                                                 const Progress& progress) {
  EnsureRequestId(request);
  return impl_->Run(DeadlineOf(request.deadline()), progress,
                    [&](grpc::ClientContext& context) {
                      return impl_->models->Sync(&context, request);
                    });
}

absl::StatusOr<v1::OperationResult> Client::Verify(v1::VerifyRequest request,
                                                   const Progress& progress) {
  EnsureRequestId(request);
  return impl_->Run(impl_->options.operation_deadline, progress,
                    [&](grpc::ClientContext& context) {
                      return impl_->models->Verify(&context, request);
                    });
}

absl::StatusOr<v1::OperationResult> Client::Redistribute(
    v1::RedistributeRequest request, const Progress& progress) {
  EnsureRequestId(request);
  return impl_->Run(DeadlineOf(request.deadline()), progress,
                    [&](grpc::ClientContext& context) {
                      return impl_->catalog->Redistribute(&context, request);
                    });
}

absl::StatusOr<v1::LocateResponse> Client::Locate(
    const v1::LocateRequest& request) {
  return impl_->Call(*impl_->catalog, &v1::CatalogService::Stub::Locate,
                     request);
}

absl::StatusOr<v1::ListSamplesResponse> Client::ListSamples(
    const v1::ListSamplesRequest& request) {
  return impl_->Call(*impl_->catalog, &v1::CatalogService::Stub::ListSamples,
                     request);
}

absl::StatusOr<v1::ClearResponse> Client::Clear(v1::ClearRequest request) {
  EnsureRequestId(request);
  return impl_->Call(*impl_->catalog, &v1::CatalogService::Stub::Clear,
                     request);
}

absl::StatusOr<v1::PlanRedistributionResponse> Client::PlanRedistribution(
    const v1::RedistributeRequest& request) {
  return impl_->Call(*impl_->catalog,
                     &v1::CatalogService::Stub::PlanRedistribution, request);
}

absl::StatusOr<v1::GetStatusResponse> Client::GetStatus(int max_events) {
  v1::GetStatusRequest request;
  request.set_max_events(max_events);
  return impl_->Call(*impl_->status, &v1::StatusService::Stub::GetStatus,
                     request);
}

absl::Status Client::WatchEvents(
    uint64_t after_revision,
    const std::function<bool(const v1::Event&)>& event) {
  grpc::ClientContext context;
  v1::WatchEventsRequest request;
  request.set_after_revision(after_revision);
  auto reader = impl_->status->WatchEvents(&context, request);
  v1::Event received;
  while (reader->Read(&received)) {
    if (event(received)) continue;
    context.TryCancel();
    reader->Finish();
    return absl::OkStatus();
  }
  return FromGrpcStatus(reader->Finish());
}

}  // namespace sluice
