#ifndef SLUICE_TESTS_SIM_READER_H_
#define SLUICE_TESTS_SIM_READER_H_

// A reader of a whole replica: asks one agent which version is current, pins
// that version on all agents of the replica, and checks that every byte it can
// see belongs to it, as long as it holds the pins.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "agent/core/effects.h"
#include "tests/sim/process.h"
#include "tests/sim/sim_agent.h"
#include "tests/sim/world.h"

namespace sluice::sim {

class Reader : public Process {
 public:
  Reader(World& world, std::string name, std::string placement,
         std::vector<SimAgent*> agents);

  void Start();
  void Kill();
  // Reads no more; what it holds it gives back.
  void Quit() { quitting_ = true; }
  // Whole replicas that were read and found right.
  int64_t reads() const { return reads_; }

 private:
  struct Member {
    SimAgent* agent = nullptr;
    agent::SessionId session;
    uint64_t attachment = 0;
    bool pinned = false;
    agent::PinReply pin;
    std::shared_ptr<Memory> memory;
    std::shared_ptr<const RankLayout> layout;
  };

  void ReadLater();
  void Read();
  void PinNext(size_t index, Version version);
  void PinFailed(const absl::Status& status);
  void Take(Member& member, const agent::PinReply& pin);
  void Hold(int checks, Version version);
  void Check(Version version);
  void Release();
  void AttachTo(Member& member);

  const std::string placement_;
  std::vector<Member> members_;
  bool quitting_ = false;
  bool reading_ = false;
  int64_t reads_ = 0;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_READER_H_
