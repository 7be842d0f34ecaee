#ifndef SLUICE_AGENT_CORE_AGENT_CORE_H_
#define SLUICE_AGENT_CORE_AGENT_CORE_H_

// The agent's decisions as a value: Step(now, event) -> effects. It knows
// placements, copies and their versions, samples and where they lie, running
// operations, brackets and pins; it touches no memory, thread, clock or socket.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/core/effects.h"
#include "agent/core/events.h"

namespace sluice::agent {

struct AgentOptions {
  std::string name;
  Incarnation incarnation;
  int64_t memory_bytes = int64_t{4} << 30;  // arenas and samples
  int64_t staging_bytes = int64_t{64} << 20;
  int64_t sample_segment_bytes = int64_t{64} << 20;
  // An operation not voted for so long after Execute aborts by itself, if the
  // command does not say otherwise.
  absl::Duration default_deadline = absl::Minutes(10);
  int32_t max_entries_per_inventory = 10000;

  absl::Status Validate() const;
};

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
