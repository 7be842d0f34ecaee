#ifndef SLUICE_AGENT_CORE_AGENT_CORE_H_
#define SLUICE_AGENT_CORE_AGENT_CORE_H_

// The agent's decisions as a value: Step(now, event) -> effects. It knows
// placements, copies and their versions, samples and where they lie, running
// operations, brackets and pins; it touches no memory, thread, clock or socket.

#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "agent/core/agent_options.h"
#include "agent/core/effects.h"
#include "agent/core/events.h"

namespace sluice::agent {

class AgentCore {
 public:
  explicit AgentCore(AgentOptions options);
  ~AgentCore();
  AgentCore(const AgentCore&) = delete;
  AgentCore& operator=(const AgentCore&) = delete;

  // Handles one event at `now`; returns the effects to run, in order.
  std::vector<Effect> Step(absl::Time now, const Event& event);

  // Whether no operation runs, for draining.
  bool Idle() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_AGENT_CORE_H_
