#ifndef SLUICE_COORDINATOR_CORE_COORDINATOR_CORE_H_
#define SLUICE_COORDINATOR_CORE_COORDINATOR_CORE_H_

// The coordinator's decisions as a value: Step(now, event) -> effects. Same
// events, same effects; no thread, clock, socket or log in here.

#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/core/core_options.h"
#include "coordinator/core/effects.h"
#include "coordinator/core/events.h"

namespace sluice::coordinator {

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
