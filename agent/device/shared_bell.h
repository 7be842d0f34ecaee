#ifndef SLUICE_AGENT_DEVICE_SHARED_BELL_H_
#define SLUICE_AGENT_DEVICE_SHARED_BELL_H_

// A bell in shared memory, by which processes wake each other.

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace sluice::agent {

// Lies in memory that any number of processes map; zero bytes are a bell that
// was never rung. A process that dies leaves nothing half-done in it.
//
//   const uint32_t seen = bell.rung();
//   if (!ready()) bell.Wait(seen, timeout);   // and again
class SharedBell {
 public:
  // How often it was rung; wraps.
  uint32_t rung() const { return rung_.load(std::memory_order_seq_cst); }
  // Wakes all who wait; what was written before is seen by them.
  void Ring();
  // Returns when it was rung since `seen`, when `timeout` has passed, or at any
  // other time.
  void Wait(uint32_t seen, absl::Duration timeout);

 private:
  std::atomic<uint32_t> rung_;
  std::atomic<uint32_t> sleeping_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_DEVICE_SHARED_BELL_H_
