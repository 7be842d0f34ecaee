#ifndef SLUICE_COORDINATOR_SERVICES_CALLS_H_
#define SLUICE_COORDINATOR_SERVICES_CALLS_H_

// RPCs that wait for the core, as gRPC reactors. A service's method decodes its
// request and starts one of these:
//
//   return StartUnary<GetModelReply>(host_, Decode(*request), response,
//                                    [](const GetModelReply& reply,
//                                       v1::GetModelResponse& out) { ... });
//
// A reactor deletes itself when gRPC is done with it, which is after the core
// (or the host in its place) has answered: every call is answered once.

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <variant>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/mutex.h"
#include "common/status_grpc.h"
#include "coordinator/host.h"
#include "proto/sluice/v1/operation.pb.h"
#include "proto/sluice/v1/status_service.pb.h"

namespace sluice::coordinator {

// One unary call.
class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  // Ends the call without the core.
  explicit UnaryCall(const absl::Status& status) : host_(nullptr) {
    Finish(ToGrpcStatus(status));
  }
  // `encode` turns the reply's body into the response; it runs only on success.
  template <typename ReplyType, typename Request, typename Encode>
  UnaryCall(Host& host, std::in_place_type_t<ReplyType>, Request request,
            Encode encode)
      : host_(&host) {
    CallHandlers handlers;
    handlers.reply = [this, encode = std::move(encode)](
                         const absl::Status& status, ReplyBody body) mutable {
      if (status.ok()) encode(std::get<ReplyType>(body));
      Finish(ToGrpcStatus(status));
    };
    call_ = host.Call(std::move(request), std::move(handlers));
  }

  void OnCancel() override {
    if (host_ != nullptr) host_->CallerGone(call_);
  }
  void OnDone() override { delete this; }

 private:
  Host* const host_;
  CallId call_;
};

// Hands `request` to the core, if it was decoded, and fills `response` from the
// reply by `encode(reply, *response)`.
template <typename ReplyType, typename Request, typename Response,
          typename Encode>
grpc::ServerUnaryReactor* StartUnary(Host& host,
                                     absl::StatusOr<Request> request,
                                     Response* response, Encode encode) {
  if (!request.ok()) return new UnaryCall(request.status());
  return new UnaryCall(
      host, std::in_place_type<ReplyType>, *std::move(request),
      [response, encode](const ReplyType& reply) { encode(reply, *response); });
}

// One streaming call of a long operation: updates, then the end. A caller that
// reads slowly misses updates, never the last one.
class OperationCall final
    : public grpc::ServerWriteReactor<v1::OperationUpdate> {
 public:
  template <typename Request>
  static OperationCall* Start(Host& host, absl::StatusOr<Request> request) {
    auto* call = new OperationCall(host);
    if (!request.ok()) {
      call->End(request.status());
      return call;
    }
    CallHandlers handlers;
    handlers.update = [call](const OperationUpdate& u) { call->Update(u); };
    handlers.reply = [call](const absl::Status& status, const ReplyBody&) {
      call->End(status);
    };
    call->call_ = host.Call(*std::move(request), std::move(handlers));
    return call;
  }

  void OnWriteDone(bool ok) override;
  void OnCancel() override { host_.CallerGone(call_); }
  void OnDone() override { delete this; }

 private:
  explicit OperationCall(Host& host) : host_(host) {}

  void Update(const OperationUpdate& update);
  void End(const absl::Status& status);

  Host& host_;
  CallId call_;

  Mutex mutex_;
  // Being written: not touched until OnWriteDone.
  v1::OperationUpdate current_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  // The newest update not written yet.
  std::optional<v1::OperationUpdate> next_ ABSL_GUARDED_BY(mutex_);
  // Set when the core has answered; the call finishes when all is written.
  std::optional<grpc::Status> end_ ABSL_GUARDED_BY(mutex_);
};

// One watcher of events: asks the core for the next ones when the last are
// written, so that a slow watcher holds nothing.
class EventsCall final : public grpc::ServerWriteReactor<v1::Event> {
 public:
  EventsCall(Host& host, uint64_t after_revision);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { delete this; }

 private:
  void Ask(uint64_t after_revision);
  void OnReply(const absl::Status& status, const ReplyBody& body);
  void WriteNext();

  Host& host_;
  Mutex mutex_;
  // The call that waits in the core; none while events are written.
  CallId call_ ABSL_GUARDED_BY(mutex_);
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  // Between a reply and the last write only the writes' side touches these.
  std::deque<v1::Event> events_;
  uint64_t last_revision_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_SERVICES_CALLS_H_
