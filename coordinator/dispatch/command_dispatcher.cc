#include "coordinator/dispatch/command_dispatcher.h"

#include <utility>

#include "absl/status/status.h"
#include "common/logging.h"

namespace sluice::coordinator {

CommandDispatcher::CommandDispatcher(AgentClientFactory& factory,
                                     std::function<void(Task)> post,
                                     std::function<void(const Event&)> handle)
    : factory_(factory), post_(std::move(post)), handle_(std::move(handle)) {}

void CommandDispatcher::Run(const ConnectAgent& order) {
  const uint64_t number = ++last_number_;
  const Rank rank = order.rank;
  const Incarnation incarnation = order.incarnation;
  AgentStreamCallbacks callbacks;
  callbacks.up = [this, rank, number, incarnation] {
    Forward(rank, number, StreamUpEvent{rank, incarnation});
  };
  callbacks.down = [this, rank, number, incarnation](const absl::Status& why) {
    LogWarn("command stream broken", {{"rank", rank}, {"reason", why}});
    Forward(rank, number, StreamDownEvent{rank, incarnation});
  };
  callbacks.event = [this, rank, number](AgentEvent event) {
    Forward(rank, number, AgentMessageEvent{rank, std::move(event)});
  };
  // The old stream ends before the new one begins: an agent takes one.
  connections_.erase(rank);
  Connection& connection = connections_[rank];
  connection.number = number;
  connection.incarnation = incarnation;
  connection.client = factory_.Connect({rank, incarnation, order.address},
                                       std::move(callbacks));
}

void CommandDispatcher::Run(const DisconnectAgent& order) {
  connections_.erase(order.rank);
}

void CommandDispatcher::Run(const SendCommand& order) {
  const auto it = connections_.find(order.rank);
  if (it == connections_.end() || it->second.incarnation != order.incarnation) {
    return;
  }
  it->second.client->Send(order.command);
}

void CommandDispatcher::Forward(Rank rank, uint64_t number, Event event) {
  post_([this, rank, number, event = std::move(event)]() mutable {
    const auto it = connections_.find(rank);
    if (it == connections_.end() || it->second.number != number) return;
    handle_(event);
  });
}

}  // namespace sluice::coordinator
