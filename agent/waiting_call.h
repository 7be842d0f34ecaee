#ifndef SLUICE_AGENT_WAITING_CALL_H_
#define SLUICE_AGENT_WAITING_CALL_H_

// A unary RPC that waits for a reply of the core.

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <utility>
#include <variant>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "agent/core/effects.h"
#include "agent/host.h"
#include "common/status_grpc.h"

namespace sluice::agent {

// Deletes itself when the RPC is done. A cancelled RPC is abandoned at the
// host, which answers it.
class WaitingCall final : public grpc::ServerUnaryReactor {
 public:
  // Starts the host's call; must be returned from the RPC's method at once.
  // `fill` writes the response from a reply of type Body, on the host's thread.
  template <typename Body>
  static WaitingCall* Start(AgentHost& host,
                            absl::AnyInvocable<Event(CallId) &&> make,
                            std::function<absl::Status(const Body&)> fill) {
    auto* call = new WaitingCall(host);
    call->call_ = host.Call(std::move(make), [call, fill = std::move(fill)](
                                                 const absl::Status& status,
                                                 const ReplyBody& body) {
      absl::Status outcome = status;
      if (outcome.ok()) outcome = fill(std::get<Body>(body));
      call->Finish(ToGrpcStatus(outcome));
    });
    return call;
  }

  // An RPC that is answered at once.
  static WaitingCall* Refuse(AgentHost& host, const absl::Status& status) {
    auto* call = new WaitingCall(host);
    call->Finish(ToGrpcStatus(status));
    return call;
  }

  void OnCancel() override { host_.Abandon(call_); }
  void OnDone() override { delete this; }

 private:
  explicit WaitingCall(AgentHost& host) : host_(host) {}

  AgentHost& host_;
  // Set before the method returns, so before any reaction.
  CallId call_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_WAITING_CALL_H_
