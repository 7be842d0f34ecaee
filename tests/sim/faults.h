#ifndef SLUICE_TESTS_SIM_FAULTS_H_
#define SLUICE_TESTS_SIM_FAULTS_H_

// What goes wrong in a simulated cluster, and when.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/sim/driver.h"
#include "tests/sim/reader.h"
#include "tests/sim/sim_agent.h"
#include "tests/sim/sim_coordinator.h"
#include "tests/sim/trainer.h"
#include "tests/sim/world.h"

namespace sluice::sim {

struct FaultPolicy {
  std::string name;
  bool kill_agents = false;
  bool stop_agents = false;
  bool kill_coordinator = false;
  bool stop_coordinator = false;
  bool break_streams = false;
  bool cut_agents = false;
  bool kill_workers = false;
  // Bad weather: lost calls, repeated commands, late messages.
  bool weather = false;
  // A fault at one in so many of the moments that matter; 0: none.
  int64_t moment_one_in = 0;
};

class Faults {
 public:
  struct Targets {
    SimCoordinator* coordinator = nullptr;
    std::vector<SimAgent*> agents;
    std::vector<Trainer*> trainers;
    std::vector<Process*> workers;  // others, with how to kill and start them
    std::vector<std::function<void()>> kill_worker, start_worker;
  };

  Faults(World& world, FaultPolicy policy, Targets targets)
      : world_(world),
        policy_(std::move(policy)),
        targets_(std::move(targets)) {}

  void Begin();
  // Everything lives, runs and is connected from now on.
  void End();

 private:
  void Next();
  void OnMoment(Moment moment, const std::string& who);
  void One();
  // A stream to the coordinator, or a worker's session.
  void Break(SimAgent& agent);
  void KillAgent(SimAgent& agent);
  void StopAgent(SimAgent& agent);
  void CrashCoordinator();
  void StopCoordinator();
  void KillTrainer(Trainer& trainer);
  void KillWorker(size_t index);
  void Cut(SimAgent& agent);
  SimAgent* FindAgent(const std::string& name);
  absl::Duration Down();

  World& world_;
  const FaultPolicy policy_;
  const Targets targets_;
  bool active_ = false;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_FAULTS_H_
