#ifndef SLUICE_TESTS_SIM_SIM_CLUSTER_H_
#define SLUICE_TESTS_SIM_SIM_CLUSTER_H_

// A whole cluster in one process, from a seed: the real cores of coordinator
// and agents; simulated network, clock, store, devices and workers.
//
// Invariants, looked at all along: a reader never sees a mix of two versions;
// what is published has its version's bytes; memory is neither freed nor
// written while somebody relies on it; a version never goes back. And once the
// faults end: every call has been answered, everything works, all agents are on
// one version, the catalogue is true, all memory comes back.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/driver.h"
#include "tests/sim/faults.h"
#include "tests/sim/producer.h"
#include "tests/sim/reader.h"
#include "tests/sim/sim_agent.h"
#include "tests/sim/sim_coordinator.h"
#include "tests/sim/trainer.h"
#include "tests/sim/world.h"

namespace sluice::sim {

struct Outcome {
  std::string violation;  // empty: none
  std::string history;    // its tail
  int64_t steps = 0;
  // What happened how often: "sync ok", "sync failed", "reads", ...
  std::map<std::string, int64_t> counts;
};

class SimCluster {
 public:
  SimCluster(uint64_t seed, const FaultPolicy& policy, bool verbose = false);
  ~SimCluster();

  Outcome Run();

 private:
  void MakeModel();
  DeclaredPlacement MakeTrainerPlacement();
  DeclaredPlacement MakeRolloutPlacement(const std::string& name);
  void MakeWorkers();
  void LookAround();
  void CheckNoWayBack(SimAgent& agent, const std::string& placement);
  void Quiesce(int patience);
  void CheckAtRest();

  const FaultPolicy policy_;
  World world_;
  SimCoordinator coordinator_;
  std::vector<std::unique_ptr<SimAgent>> agents_;
  std::vector<DeclaredPlacement> placements_;
  std::vector<std::unique_ptr<Trainer>> trainers_;
  std::vector<std::unique_ptr<Reader>> readers_;
  std::vector<std::unique_ptr<Producer>> producers_;
  SampleBook book_;
  std::unique_ptr<Driver> driver_;
  std::unique_ptr<Faults> faults_;
  // Newest version seen, by (agent, life, placement).
  std::map<std::pair<std::string, std::string>, std::pair<uint64_t, Version>>
      newest_;
  bool done_ = false;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_SIM_CLUSTER_H_
