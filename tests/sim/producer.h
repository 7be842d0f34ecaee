#ifndef SLUICE_TESTS_SIM_PRODUCER_H_
#define SLUICE_TESTS_SIM_PRODUCER_H_

// A worker that puts samples on its agent.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/core/effects.h"
#include "common/plan.h"
#include "tests/sim/process.h"
#include "tests/sim/sim_agent.h"
#include "tests/sim/world.h"

namespace sluice::sim {

// Samples that were put, and by whom: shared by all producers.
struct SampleBook {
  struct Sample {
    std::vector<SampleEntry> entries;
    // The life of the agent it was put on.
    SimAgent* agent = nullptr;
    uint64_t agent_life = 0;
    bool cleared = false;
  };
  std::map<std::string, Sample> put;
  int64_t next = 0;
};

class Producer : public Process {
 public:
  Producer(World& world, SimAgent& agent, SampleBook& book);

  void Start();
  void Kill();
  void Quit() { quitting_ = true; }

 private:
  void Attach();
  void PutLater();
  void Put();
  void Fill(const std::vector<SampleEntry>& entries,
            const agent::ReserveSamplesReply& reserved);
  void Commit(const std::vector<SampleEntry>& entries,
              agent::ReservationId reservation, int tries);

  SimAgent& agent_;
  SampleBook& book_;
  agent::SessionId session_;
  uint64_t attachment_ = 0;
  bool quitting_ = false;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_PRODUCER_H_
