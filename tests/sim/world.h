#ifndef SLUICE_TESTS_SIM_WORLD_H_
#define SLUICE_TESTS_SIM_WORLD_H_

// What everything in a simulated cluster shares.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "common/model.h"
#include "tests/sim/contents.h"
#include "tests/sim/element_map.h"
#include "tests/sim/history.h"
#include "tests/sim/random.h"
#include "tests/sim/scheduler.h"

namespace sluice::sim {

// Moments at which a fault is worth more than at any other.
enum class Moment {
  kCopying,          // an agent copies bytes
  kPrepared,         // an agent has bound an operation
  kVoting,           // an agent's part is complete
  kDecisionOrdered,  // the coordinator writes the decision
  kDecisionDurable,  // it is written, nobody has been told
  kCommitSent,       // some agents were told
  kCommitted,        // an agent has committed
  kWriting,          // a worker is inside its bracket
  kLoading,          // an agent reads files
};

struct World {
  World(uint64_t seed, bool verbose)
      : random(seed), history(scheduler, verbose), contents(history) {}

  // Gives faults a chance; `who` is the agent it is about, or "coordinator".
  void At(Moment moment, const std::string& who) {
    if (on_moment) on_moment(moment, who);
  }

  Scheduler scheduler;
  Random random;
  History history;
  Contents contents;
  ElementMaps maps;
  // The one model of the cluster, "policy".
  std::shared_ptr<const ModelSpec> model;
  std::function<void(Moment, const std::string&)> on_moment;
  // What happened how often, that nobody else counts.
  std::map<std::string, int64_t> counts;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_WORLD_H_
