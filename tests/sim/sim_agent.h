#ifndef SLUICE_TESTS_SIM_SIM_AGENT_H_
#define SLUICE_TESTS_SIM_SIM_AGENT_H_

// An agent's process: the real core, its fake device, its registration and
// beats, and the calls of local workers.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/core/agent_core.h"
#include "tests/sim/device.h"
#include "tests/sim/process.h"
#include "tests/sim/sim_coordinator.h"
#include "tests/sim/world.h"

namespace sluice::sim {

class SimAgent : public AgentEnd {
 public:
  using Answer = std::function<void(absl::Status, const agent::ReplyBody&)>;
  using MakeEvent = std::function<agent::Event(agent::CallId)>;

  struct Options {
    std::string name, node;
    int64_t memory_bytes = 1 << 20;
    int64_t sample_segment_bytes = 4096;
    // Whether each life listens elsewhere.
    bool new_addresses = true;
  };
  // What a worker hears on its session.
  struct SessionCallbacks {
    std::function<void(const agent::TellVersion&)> on_version;
    std::function<void()> on_broken;
  };

  SimAgent(World& world, Options options, SimCoordinator& coordinator,
           std::function<Device*(Rank)> peer);

  void Start();
  void Kill();
  const Options& options() const { return options_; }
  std::string address() const;
  Rank rank() const { return rank_; }
  Device& device() { return device_; }
  bool Idle() const { return core_ == nullptr || core_->Idle(); }

  // --- the coordinator's side
  void Deliver(const StreamPtr& stream, const Command& command,
               absl::Duration delay) override;
  void StreamBroke(const StreamPtr& stream, absl::Duration delay) override;

  // --- local workers. Answered exactly once, UNAVAILABLE if the agent dies.
  void Call(MakeEvent make, Answer answer);
  void OpenSession(const std::string& worker, SessionCallbacks callbacks,
                   std::function<void(absl::StatusOr<agent::SessionId>)> done);
  // The worker is gone.
  void CloseSession(agent::SessionId session);

  // --- looking in, at once and without a trace
  std::pair<absl::Status, agent::ReplyBody> Ask(const MakeEvent& make);
  // A violation if a published copy is not what its version must be.
  // Compares the bytes of a sample tensor. Errors: as GetSamples, if the agent
  // does not hold it.
  absl::Status CheckSample(const SampleEntry& entry);
  void CheckCopies(const std::vector<std::string>& placements);
  std::vector<CopyInventory> CopiesOf(const std::string& placement);
  // The checker's own session.
  agent::SessionId checker() const { return checker_; }

 private:
  void Register();
  void Beat();
  void Tick();
  void Step(const agent::Event& event);
  void RunOne(const agent::Effect& effect);
  template <typename DeviceOrder>
  void Run(const DeviceOrder& order) {
    device_.Run(order);
  }
  void Run(const agent::ForgetContent&) {}
  void Run(const agent::SetPeers&) {}
  void Run(const agent::SendEvent& order);
  void Run(const agent::CloseStream& order);
  void Run(const agent::Reply& order);
  void Run(const agent::TellVersion& order);
  // Learns from a command which content a version is.
  void NoteRank(Rank rank);
  void NoteVersions(const Command& command);
  void Receive(const StreamPtr& stream, const Command& command);

  const Options options_;
  SimCoordinator& coordinator_;
  Device device_;
  std::unique_ptr<agent::AgentCore> core_;
  Incarnation incarnation_;
  Rank rank_ = kNoRank;
  Epoch epoch_;
  std::string cluster_id_;
  bool registering_ = false;
  StreamPtr stream_;
  std::deque<agent::Event> events_;
  std::map<agent::CallId, Answer> calls_;
  uint64_t next_call_ = 1;
  std::map<agent::SessionId, SessionCallbacks> sessions_;
  agent::SessionId checker_;
  // Steps of write events that were told, by event id.
  std::map<uint64_t, std::pair<std::string, int64_t>> told_steps_;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_SIM_AGENT_H_
