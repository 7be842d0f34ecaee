#ifndef SLUICE_TESTS_SIM_TRAINER_H_
#define SLUICE_TESTS_SIM_TRAINER_H_

// A trainer rank: lends its memory to its agent, writes it inside brackets, and
// comes back with what it holds after the agent was restarted.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/core/effects.h"
#include "tests/sim/device.h"
#include "tests/sim/process.h"
#include "tests/sim/sim_agent.h"
#include "tests/sim/world.h"

namespace sluice::sim {

class Trainer : public Process {
 public:
  Trainer(World& world, SimAgent& agent, std::string placement);

  void Start();
  // Its memory is lost with it.
  void Kill();
  // Its session with the living agent ends, news on their way with it.
  void BreakSession();

  // Writes the content of a step inside a bracket.
  void Write(int64_t step, std::function<void(absl::Status)> done);
  bool ready() const { return lent_; }

 private:
  void AttachLater();
  void Attach();
  void FindPlacement();
  void Lend(const agent::GetPlacementReply& placement);
  void WriteSome(int64_t step, ContentId content, size_t next,
                 uint64_t bracket);
  void EndWrite(int64_t step, int tries);
  void Finish(absl::Status status);

  SimAgent& agent_;
  const std::string placement_;
  std::shared_ptr<Memory> memory_;
  std::shared_ptr<const RankLayout> layout_;
  // What the memory holds, as far as the worker knows.
  Version version_;
  int64_t step_ = 0;

  agent::SessionId session_;
  uint64_t attachment_ = 0;  // counts them
  bool attaching_ = false;
  bool lent_ = false;
  BufferId buffer_;
  bool writing_ = false;  // between BeginWrite and the last byte
  std::function<void(absl::Status)> done_;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_TRAINER_H_
