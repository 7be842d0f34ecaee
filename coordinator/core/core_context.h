#ifndef SLUICE_COORDINATOR_CORE_CORE_CONTEXT_H_
#define SLUICE_COORDINATOR_CORE_CORE_CONTEXT_H_

// What all parts of the coordinator's core share: the time of the running
// step, who this coordinator is, and the effects collected so far.

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/core/core_options.h"
#include "coordinator/core/effects.h"
#include "coordinator/core/events.h"

namespace sluice::coordinator {

// Not thread-safe, as everything in the core: used inside Step() only.
struct CoreContext {
  explicit CoreContext(const CoreOptions& o) : options(o) {}

  void Emit(Effect effect) { effects.push_back(std::move(effect)); }
  void ReplyOk(CallId call, ReplyBody body) {
    Emit(Reply{call, absl::OkStatus(), std::move(body)});
  }
  void ReplyError(CallId call, absl::Status status) {
    Emit(Reply{call, std::move(status), StreamEnd{}});
  }

  const CoreOptions options;
  // Of the running step; never goes back.
  absl::Time now = absl::InfinitePast();
  absl::Time started = absl::InfinitePast();
  Epoch epoch;
  std::string cluster_id;
  std::vector<Effect> effects;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_CORE_CONTEXT_H_
