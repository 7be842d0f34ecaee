#ifndef SLUICE_COORDINATOR_CORE_CORE_OPTIONS_H_
#define SLUICE_COORDINATOR_CORE_CORE_OPTIONS_H_

// The coordinator core's times and bounds.

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"

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
  // How long an agent may take to answer a command that waits for nothing.
  absl::Duration command_timeout = absl::Seconds(10);
  // How long a failed operation waits for its agents to stop before its caller
  // is told; they are still told to stop after that.
  absl::Duration abort_timeout = absl::Seconds(2);
  // How long a decided operation waits for its agents' confirmations before its
  // caller is told; the decision reaches them later all the same.
  absl::Duration confirm_timeout = absl::Seconds(10);
  int32_t max_agents = 65536;
  int32_t max_kept_events = 1000;
  int32_t max_kept_operations = 50;

  // Errors: INVALID_ARGUMENT - names the field, its bounds and its value.
  absl::Status Validate() const;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_CORE_OPTIONS_H_
