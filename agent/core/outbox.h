#ifndef SLUICE_AGENT_CORE_OUTBOX_H_
#define SLUICE_AGENT_CORE_OUTBOX_H_

// Collects the effects of one step, in order, and gives the agent's events
// their incarnation.

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/core/effects.h"
#include "agent/core/events.h"
#include "common/command.h"
#include "common/ids.h"

namespace sluice::agent {

// Used by one core; not thread-safe.
class Outbox {
 public:
  explicit Outbox(Incarnation incarnation) : incarnation_(incarnation) {}

  template <typename Order>
  void Add(Order order) {
    effects_.emplace_back(std::move(order));
  }

  // Sends an event if the coordinator listens; else drops it: whoever tells
  // something that must arrive tells it again after the next inventory.
  void Tell(AgentEventBody body, uint64_t event_id = 0) {
    if (!connected_) return;
    Add(SendEvent{AgentEvent{event_id, incarnation_, std::move(body)}});
  }

  // Ends a worker's call.
  void Respond(CallId call, absl::Status status, ReplyBody body);

  // Whether a stream is open and its Welcome has been accepted.
  bool connected() const { return connected_; }
  void set_connected(bool connected) { connected_ = connected; }

  std::vector<Effect> Take() { return std::exchange(effects_, {}); }

 private:
  const Incarnation incarnation_;
  bool connected_ = false;
  std::vector<Effect> effects_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_OUTBOX_H_
