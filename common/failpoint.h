#ifndef SLUICE_COMMON_FAILPOINT_H_
#define SLUICE_COMMON_FAILPOINT_H_

// Named points at which a test may kill or stop the process: between a vote and
// its commit, before a decision is durable, at the n-th byte of a transfer.
//
// In daemons for use a point does nothing. The daemons that tests start
// (agent_with_failpoints, coordinator_with_failpoints) link failpoint_on: it
// maps the file that SLUICE_FAILPOINT_FILE names, so that a test arms a point
// in a running process by writing to the file.

#include <atomic>
#include <cstdint>

namespace sluice {

// Says that `amount` (bytes, or 1 for an event) passed the point `name`.
void Failpoint(const char* name, int64_t amount = 1);

// Layout of the mapped file; all zero means not armed.
struct FailpointControl {
  static constexpr int kNameBytes = 64;
  enum Action : int32_t { kNone = 0, kKill = 1, kStop = 2 };

  // Written last by the test (release), read first by the process (acquire).
  std::atomic<int32_t> action;
  // Set to 1 by the process just before it acts.
  std::atomic<int32_t> fired;
  // What may still pass before the point acts.
  std::atomic<int64_t> remaining;
  char name[kNameBytes];
};
static_assert(std::atomic<int64_t>::is_always_lock_free);

}  // namespace sluice

#endif  // SLUICE_COMMON_FAILPOINT_H_
