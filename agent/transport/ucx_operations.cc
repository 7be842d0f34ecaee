// The messages of the engine and their ends.

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/transport/ucx_engine.h"
#include "agent/transport/ucx_status.h"

namespace sluice::agent {

void UcxTransport::Engine::Send(GroupId group, PeerKey key, uint64_t tag,
                                const void* data, int64_t bytes, Done done) {
  const bool large = bytes >= kLargeBytes;
  auto endpoint = OutboundTo(key, large);
  if (!endpoint.ok()) {
    std::move(done)(endpoint.status());
    return;
  }
  auto owner = std::make_unique<Operation>();
  Operation& operation = *owner;
  operation.engine = this;
  operation.id = next_operation_++;
  operation.group = group;
  operation.tag = tag;
  operation.data = const_cast<void*>(data);
  operation.bytes = bytes;
  operation.client_id = (*endpoint)->client_id;
  operation.endpoint = *endpoint;
  if (large) operation.endpoint->carries = true;
  operation.done = std::move(done);
  operations_.emplace(operation.id, std::move(owner));
  if ((*endpoint)->settled) {
    SubmitSend(operation);
  } else {
    (*endpoint)->waiting.push_back(operation.id);
  }
}

void UcxTransport::Engine::SubmitSend(Operation& operation) {
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
                       UCP_OP_ATTR_FIELD_USER_DATA |
                       UCP_OP_ATTR_FIELD_MEMORY_TYPE;
  param.cb.send = OnSent;
  param.user_data = &operation;
  param.memory_type = UCS_MEMORY_TYPE_HOST;
  const ucs_status_ptr_t result = ucp_tag_send_nbx(
      operation.endpoint->handle, operation.data,
      static_cast<size_t>(operation.bytes), operation.tag, &param);
  Submitted(operation, result);
}

void UcxTransport::Engine::Receive(GroupId group, PeerKey key, uint64_t tag,
                                   void* data, int64_t bytes, Done done) {
  // Opened though nothing is sent: it says at once that the peer is not there.
  const auto endpoint = OutboundTo(key, /*large=*/false);
  if (!endpoint.ok()) {
    std::move(done)(endpoint.status());
    return;
  }
  auto owner = std::make_unique<Operation>();
  Operation& operation = *owner;
  operation.engine = this;
  operation.id = next_operation_++;
  operation.group = group;
  operation.receive = true;
  operation.tag = tag;
  operation.data = data;
  operation.bytes = bytes;
  operation.client_id = (*endpoint)->client_id;
  operation.done = std::move(done);
  operations_.emplace(operation.id, std::move(owner));
  SubmitReceive(operation);
}

void UcxTransport::Engine::SubmitReceive(Operation& operation) {
  ucp_request_param_t param{};
  // The callback always comes, if need be before the call returns: only it
  // tells how long the message was.
  param.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
      UCP_OP_ATTR_FIELD_MEMORY_TYPE | UCP_OP_ATTR_FLAG_NO_IMM_CMPL;
  param.cb.recv = OnReceived;
  param.user_data = &operation;
  param.memory_type = UCS_MEMORY_TYPE_HOST;
  const uint64_t id = operation.id;
  const ucs_status_ptr_t result =
      ucp_tag_recv_nbx(worker_, operation.data,
                       static_cast<size_t>(operation.bytes), operation.tag,
                       /*tag_mask=*/~uint64_t{0}, &param);
  if (operations_.contains(id)) Submitted(operation, result);
}

void UcxTransport::Engine::Submitted(Operation& operation,
                                     ucs_status_ptr_t result) {
  if (UCS_PTR_IS_PTR(result)) {
    operation.request = result;
  } else {
    Finish(operation.id, UCS_PTR_STATUS(result), operation.bytes);
  }
}

void UcxTransport::Engine::OnSent(void* request, ucs_status_t status,
                                  void* user_data) {
  auto* operation = static_cast<Operation*>(user_data);
  Engine* engine = operation->engine;
  engine->Finish(operation->id, status, operation->bytes);
  ucp_request_free(request);
}

void UcxTransport::Engine::OnReceived(void* request, ucs_status_t status,
                                      const ucp_tag_recv_info_t* info,
                                      void* user_data) {
  auto* operation = static_cast<Operation*>(user_data);
  Engine* engine = operation->engine;
  engine->Finish(operation->id, status, static_cast<int64_t>(info->length));
  ucp_request_free(request);
}

void UcxTransport::Engine::Finish(uint64_t id, ucs_status_t status,
                                  int64_t received) {
  auto node = operations_.extract(id);
  Operation& operation = *node.mapped();
  if (operation.endpoint && operation.bytes >= kLargeBytes) {
    operation.endpoint->carries = false;
  }
  absl::Status result;
  if (status == UCS_OK && received != operation.bytes) {
    result = absl::DataLossError(absl::StrCat(
        "message of ", received, " bytes, expected ", operation.bytes));
  } else if (status == UCS_OK) {
    result = absl::OkStatus();
  } else if (!operation.reason.ok()) {
    result = operation.reason;
  } else if (operation.endpoint && !operation.endpoint->failure.ok()) {
    result = operation.endpoint->failure;
  } else if (status == UCS_ERR_CANCELED) {
    // Not by us: UCX ended it with its connection, before it reported that.
    result = absl::UnavailableError("connection to the peer lost");
  } else {
    result = UcxStatus(status, operation.receive ? "receive" : "send");
  }
  std::move(operation.done)(std::move(result));
  for (Waiter& waiter : waiters_) waiter.operations.erase(id);
  CheckWaiters();
}

void UcxTransport::Engine::CancelGroup(GroupId group, Done done) {
  Waiter waiter;
  waiter.done = std::move(done);
  std::vector<uint64_t> waiting;
  std::vector<void*> posted;
  for (const auto& [id, operation] : operations_) {
    if (operation->group != group) continue;
    operation->reason = absl::CancelledError("the operation was cancelled");
    waiter.operations.insert(id);
    if (operation->receive) {
      posted.push_back(operation->request);
    } else if (operation->request == nullptr) {
      waiting.push_back(id);
    }
  }
  for (const uint64_t id : waiting) Finish(id, UCS_ERR_CANCELED, 0);
  for (void* request : posted) ucp_request_cancel(worker_, request);
  // What is left is on its way: only the end of its connection ends it. One
  // that does not stand yet carries nothing, and stays.
  absl::flat_hash_set<EndpointPtr> endpoints;
  for (const auto& [id, operation] : operations_) {
    if (operation->group != group) continue;
    if (!operation->receive) {
      endpoints.insert(operation->endpoint);
      continue;
    }
    const auto inbound = inbound_.find(operation->client_id);
    if (inbound == inbound_.end()) continue;
    for (const EndpointPtr& endpoint : inbound->second) {
      if (endpoint->settled) endpoints.insert(endpoint);
    }
  }
  waiter.endpoints.assign(endpoints.begin(), endpoints.end());
  for (const EndpointPtr& endpoint : waiter.endpoints) {
    CloseEndpoint(endpoint,
                  absl::UnavailableError("the connection was closed to cancel "
                                         "another operation"));
  }
  AddWaiter(std::move(waiter));
}

void UcxTransport::Engine::AddWaiter(Waiter waiter) {
  // Some may have ended while the waiter was made.
  absl::erase_if(waiter.operations,
                 [this](uint64_t id) { return !operations_.contains(id); });
  waiters_.push_back(std::move(waiter));
  CheckWaiters();
}

void UcxTransport::Engine::CheckWaiters() {
  // Callbacks may add waiters: those over are taken out first.
  std::list<Waiter> over;
  for (auto it = waiters_.begin(); it != waiters_.end();) {
    const auto next = std::next(it);
    const bool open = std::any_of(
        it->endpoints.begin(), it->endpoints.end(),
        [](const std::shared_ptr<Endpoint>& e) { return !e->closed; });
    if (it->operations.empty() && !open) over.splice(over.end(), waiters_, it);
    it = next;
  }
  for (Waiter& waiter : over) {
    if (waiter.done) std::move(waiter.done)(absl::OkStatus());
  }
}

}  // namespace sluice::agent
