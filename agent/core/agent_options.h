#ifndef SLUICE_AGENT_CORE_AGENT_OPTIONS_H_
#define SLUICE_AGENT_CORE_AGENT_OPTIONS_H_

// What an agent's core is told at its start.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/ids.h"

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
  // How long a worker's call waits for the coordinator to know of a change; the
  // change itself is kept.
  absl::Duration ack_deadline = absl::Seconds(10);
  // How long a load waits for pins of the copy that it overwrites.
  absl::Duration load_wait = absl::Seconds(10);
  // Parts of plans kept by digest for repeated operations.
  int32_t max_kept_parts = 64;

  // Errors: INVALID_ARGUMENT - names the field, its bounds and its value.
  absl::Status Validate() const;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_AGENT_OPTIONS_H_
