#ifndef SLUICE_COORDINATOR_CORE_COORDINATOR_CORE_H_
#define SLUICE_COORDINATOR_CORE_COORDINATOR_CORE_H_

// The coordinator's decisions as a value: Step(now, event) -> effects. Same
// events, same effects; no thread, clock, socket or log in here.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/core/effects.h"
#include "coordinator/core/events.h"

namespace sluice::coordinator {

struct CoreOptions {
  absl::Duration lease = absl::Seconds(10);
  absl::Duration heartbeat_interval = absl::Seconds(1);
  // A broken stream that does not come back so long ends the agent's
  // operations.
  absl::Duration suspect_grace = absl::Seconds(2);
  // How often the host sends TickEvent.
  absl::Duration tick_interval = absl::Milliseconds(100);
  // A gap between two events longer than this means that the coordinator itself
  // stalled: leases are extended by it.
  absl::Duration stall_threshold = absl::Seconds(2);
  absl::Duration outcome_retention = absl::Hours(1);
  int32_t max_agents = 65536;
  int32_t max_kept_events = 1000;
  int32_t max_kept_operations = 50;

  // Errors: INVALID_ARGUMENT - names the field, its bounds and its value.
  absl::Status Validate() const;
};

class CoordinatorCore {
 public:
  explicit CoordinatorCore(CoreOptions options);
  ~CoordinatorCore();
  CoordinatorCore(const CoordinatorCore&) = delete;
  CoordinatorCore& operator=(const CoordinatorCore&) = delete;

  // Handles one event at `now` (wall time made monotonic by the host: never
  // goes back). Returns the effects to run, in order.
  std::vector<Effect> Step(absl::Time now, const Event& event);

  // Whether nothing is running, for draining at shutdown.
  bool Idle() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_COORDINATOR_CORE_H_
