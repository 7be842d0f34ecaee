// The connections of the engine.

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/transport/ucx_engine.h"
#include "agent/transport/ucx_status.h"
#include "common/status_macros.h"

namespace sluice::agent {

void UcxTransport::Engine::Connect(PeerKey key, UcxAddress address) {
  Peer& peer = peers_[key];
  if (peer.address == address) return;
  if (peer.address.port != 0) {
    ClosePeer(peer, absl::UnavailableError("the peer has a new address"),
              /*closed=*/nullptr);
  }
  peer.address = std::move(address);
}

void UcxTransport::Engine::Disconnect(PeerKey key, Done done) {
  Waiter waiter;
  waiter.done = std::move(done);
  const auto it = peers_.find(key);
  if (it != peers_.end()) {
    const Peer peer = std::move(it->second);
    peers_.erase(it);
    for (const auto& [id, operation] : operations_) {
      if (operation->client_id == peer.address.client_id) {
        waiter.operations.insert(id);
      }
    }
    ClosePeer(peer, absl::UnavailableError("the peer was disconnected"),
              &waiter.endpoints);
  }
  AddWaiter(std::move(waiter));
}

void UcxTransport::Engine::OnConnection(ucp_conn_request_h request,
                                        void* engine) {
  static_cast<Engine*>(engine)->Accept(request);
}

void UcxTransport::Engine::Accept(ucp_conn_request_h request) {
  ucp_conn_request_attr_t attributes{};
  attributes.field_mask = UCP_CONN_REQUEST_ATTR_FIELD_CLIENT_ID;
  if (ucp_conn_request_query(request, &attributes) != UCS_OK) {
    ucp_listener_reject(listener_, request);
    return;
  }
  last_request_ = std::chrono::steady_clock::now();
  auto endpoint = std::make_shared<Endpoint>();
  endpoint->inbound = true;
  endpoint->client_id = attributes.client_id;
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST;
  params.conn_request = request;
  // A connection that fails here is one the other side sees fail.
  if (!OpenEndpoint(params, endpoint).ok()) return;
  inbound_[endpoint->client_id].push_back(endpoint);
  AwaitConnection(endpoint);
  // Taken and closed, never rejected: UCX's thread calls a null function when
  // a client answers its rejection (openucx/ucx issue 11235).
  if (stopping_) CloseEndpoint(endpoint, absl::CancelledError("stopping"));
}

absl::StatusOr<UcxTransport::Engine::EndpointPtr>
UcxTransport::Engine::OutboundTo(PeerKey key, bool large) {
  if (stopping_) return absl::CancelledError("the transport stops");
  const auto it = peers_.find(key);
  if (it == peers_.end()) {
    return absl::UnavailableError(absl::StrCat("no address of peer ", key));
  }
  Peer& peer = it->second;
  for (const EndpointPtr& endpoint : peer.outbound) {
    if (!large || !endpoint->carries) return endpoint;
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(peer.address.port);
  inet_pton(AF_INET, peer.address.host.c_str(), &address.sin_addr);
  auto endpoint = std::make_shared<Endpoint>();
  endpoint->client_id = peer.address.client_id;
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_SOCK_ADDR | UCP_EP_PARAM_FIELD_FLAGS;
  params.flags =
      UCP_EP_PARAMS_FLAGS_CLIENT_SERVER | UCP_EP_PARAMS_FLAGS_SEND_CLIENT_ID;
  params.sockaddr.addr = reinterpret_cast<const sockaddr*>(&address);
  params.sockaddr.addrlen = sizeof(address);
  SLUICE_RETURN_IF_ERROR(OpenEndpoint(params, endpoint));
  peer.outbound.push_back(endpoint);
  AwaitConnection(endpoint);
  return endpoint;
}

void UcxTransport::Engine::AwaitConnection(const EndpointPtr& endpoint) {
  // Each side greets. Both greetings through: the connection stands on both
  // sides. (A flush would end when it stands on this one; but over TCP it is a
  // one-sided write, whose acknowledgement UCX 1.13 cannot always place.)
  connecting_.push_front(endpoint);
  const auto entry = connecting_.begin();
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
                       UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_AM_SEND_FLAG_REPLY;  // says which endpoint it came on
  param.cb.send = OnGreetingSent;
  param.user_data = &*entry;
  const ucs_status_ptr_t greeting = ucp_am_send_nbx(
      endpoint->handle, kGreeting, /*header=*/nullptr,
      /*header_length=*/0, /*buffer=*/nullptr, /*count=*/0, &param);
  if (!UCS_PTR_IS_PTR(greeting)) {
    connecting_.erase(entry);
    GreetingSent(endpoint, UCS_PTR_STATUS(greeting));
  }
}

void UcxTransport::Engine::OnGreetingSent(void* request, ucs_status_t status,
                                          void* user_data) {
  auto* entry = static_cast<EndpointPtr*>(user_data);
  const EndpointPtr endpoint = *entry;
  Engine* engine = endpoint->engine;
  engine->connecting_.remove_if(
      [entry](const EndpointPtr& other) { return &other == entry; });
  engine->GreetingSent(endpoint, status);
  ucp_request_free(request);
}

void UcxTransport::Engine::GreetingSent(const EndpointPtr& endpoint,
                                        ucs_status_t status) {
  // A failure also comes, or came, to OnEndpointError.
  if (endpoint->handle == nullptr || status != UCS_OK) return;
  endpoint->greeted = true;
  if (endpoint->heard) Settled(endpoint);
}

ucs_status_t UcxTransport::Engine::OnGreeting(
    void* arg, const void*, size_t, void*, size_t,
    const ucp_am_recv_param_t* param) {
  auto* engine = static_cast<Engine*>(arg);
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) == 0) return UCS_OK;
  for (const auto& [pointer, endpoint] : engine->open_) {
    if (endpoint->handle != param->reply_ep) continue;
    endpoint->heard = true;
    const EndpointPtr heard = endpoint;
    if (heard->greeted) engine->Settled(heard);
    break;
  }
  return UCS_OK;
}

void UcxTransport::Engine::Settled(const EndpointPtr& endpoint) {
  endpoint->settled = true;
  if (endpoint->close_when_settled) failed_.push_back(endpoint);
  if (!endpoint->failure.ok()) return;
  std::vector<uint64_t> waiting;
  waiting.swap(endpoint->waiting);
  for (const uint64_t id : waiting) {
    const auto it = operations_.find(id);
    if (it != operations_.end()) SubmitSend(*it->second);
  }
}

void UcxTransport::Engine::DropWaiting(const EndpointPtr& endpoint) {
  std::vector<uint64_t> waiting;
  waiting.swap(endpoint->waiting);
  for (const uint64_t id : waiting) {
    if (operations_.contains(id)) Finish(id, UCS_ERR_CANCELED, 0);
  }
}

absl::Status UcxTransport::Engine::OpenEndpoint(ucp_ep_params_t& params,
                                                const EndpointPtr& owner) {
  owner->engine = this;
  params.field_mask |=
      UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = OnEndpointError;
  params.err_handler.arg = owner.get();
  const ucs_status_t status = ucp_ep_create(worker_, &params, &owner->handle);
  if (status != UCS_OK) {
    owner->handle = nullptr;
    return absl::UnavailableError(
        absl::StrCat("connection to a peer: ", ucs_status_string(status)));
  }
  open_.emplace(owner.get(), owner);
  return absl::OkStatus();
}

void UcxTransport::Engine::OnEndpointError(void* arg, ucp_ep_h,
                                           ucs_status_t status) {
  auto* endpoint = static_cast<Endpoint*>(arg);
  Engine* engine = endpoint->engine;
  const auto it = engine->open_.find(endpoint);
  if (it == engine->open_.end() || !endpoint->failure.ok()) return;
  endpoint->failure = absl::UnavailableError(
      absl::StrCat("connection to the peer lost: ", ucs_status_string(status)));
  engine->failed_.push_back(it->second);
}

bool UcxTransport::Engine::CloseFailedEndpoints() {
  bool any = false;
  while (!failed_.empty()) {
    any = true;
    std::vector<EndpointPtr> failed;
    failed.swap(failed_);
    for (const EndpointPtr& endpoint : failed) {
      if (endpoint->close_when_settled) {
        ForceClosed(endpoint);
        continue;
      }
      const absl::Status reason = endpoint->failure;
      CloseEndpoint(endpoint, reason);
      // With no connection to receive on, what was to come on it does not. A
      // newer connection of the same peer keeps its receives.
      if (!inbound_.contains(endpoint->client_id)) {
        WithdrawReceives(endpoint->client_id, reason);
      }
    }
  }
  return any;
}

void UcxTransport::Engine::Forget(const EndpointPtr& endpoint) {
  for (auto& [key, peer] : peers_) {
    std::erase(peer.outbound, endpoint);
  }
  const auto it = inbound_.find(endpoint->client_id);
  if (it == inbound_.end()) return;
  std::erase(it->second, endpoint);
  if (it->second.empty()) inbound_.erase(it);
}

void UcxTransport::Engine::CloseEndpoint(const EndpointPtr& endpoint,
                                         const absl::Status& reason) {
  if (endpoint->handle == nullptr) return;
  endpoint->failure = reason;
  Forget(endpoint);
  DropWaiting(endpoint);
  if (endpoint->settled) {
    ForceClosed(endpoint);
  } else {
    // Nothing was sent on it: for those who wait it is closed.
    endpoint->close_when_settled = true;
    endpoint->closed = true;
  }
}

void UcxTransport::Engine::ForceClosed(const EndpointPtr& endpoint) {
  if (endpoint->handle == nullptr) return;
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  open_.erase(endpoint.get());
  const ucs_status_ptr_t closing =
      ucp_ep_close_nbx(std::exchange(endpoint->handle, nullptr), &param);
  if (UCS_PTR_IS_PTR(closing)) {
    closing_.emplace_back(endpoint, closing);
  } else {
    endpoint->closed = true;
  }
}

void UcxTransport::Engine::CollectClosedEndpoints() {
  bool any = false;
  for (auto it = closing_.begin(); it != closing_.end();) {
    if (ucp_request_check_status(it->second) == UCS_INPROGRESS) {
      ++it;
      continue;
    }
    ucp_request_free(it->second);
    it->first->closed = true;
    it = closing_.erase(it);
    any = true;
  }
  if (any) CheckWaiters();
}

void UcxTransport::Engine::ClosePeer(const Peer& peer,
                                     const absl::Status& reason,
                                     std::vector<EndpointPtr>* closed) {
  WithdrawReceives(peer.address.client_id, reason);
  std::vector<EndpointPtr> endpoints = peer.outbound;
  const auto inbound = inbound_.find(peer.address.client_id);
  if (inbound != inbound_.end()) {
    endpoints.insert(endpoints.end(), inbound->second.begin(),
                     inbound->second.end());
  }
  for (const EndpointPtr& endpoint : endpoints) {
    CloseEndpoint(endpoint, reason);
  }
  if (closed != nullptr) *closed = std::move(endpoints);
}

void UcxTransport::Engine::WithdrawReceives(uint64_t client_id,
                                            const absl::Status& reason) {
  std::vector<void*> posted;
  for (const auto& [id, operation] : operations_) {
    if (!operation->receive || operation->client_id != client_id) continue;
    if (operation->reason.ok()) operation->reason = reason;
    posted.push_back(operation->request);
  }
  for (void* request : posted) ucp_request_cancel(worker_, request);
}

}  // namespace sluice::agent
