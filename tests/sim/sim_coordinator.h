#ifndef SLUICE_TESTS_SIM_SIM_COORDINATOR_H_
#define SLUICE_TESTS_SIM_SIM_COORDINATOR_H_

// The coordinator's process: the real core with a store that keeps what was
// durable at a crash, streams to agents and calls that break.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/core/coordinator_core.h"
#include "tests/sim/process.h"
#include "tests/sim/world.h"

namespace sluice::sim {

struct Stream;
using StreamPtr = std::shared_ptr<Stream>;

// An agent's process, as streams see it.
class AgentEnd : public Process {
 public:
  using Process::Process;
  virtual ~AgentEnd() = default;
  virtual void Deliver(const StreamPtr& stream, const Command& command,
                       absl::Duration delay) = 0;
  virtual void StreamBroke(const StreamPtr& stream, absl::Duration delay) = 0;
};

// A command stream: ordered both ways, until it breaks.
struct Stream {
  Rank rank = kNoRank;
  Incarnation incarnation;
  AgentEnd* agent = nullptr;
  uint64_t coordinator_life = 0;
  bool open = true;
  absl::Time last_to_agent, last_to_coordinator;
};

// How well the network works at present.
struct Weather {
  absl::Duration delay = absl::Milliseconds(1);
  // One call in so many is lost, request or answer; 0: none.
  int64_t lose_one_in = 0;
  // One command in so many comes twice; 0: none.
  int64_t repeat_one_in = 0;
  // One message in so many is late by up to a second; 0: none.
  int64_t spike_one_in = 0;
};

class SimCoordinator : public Process {
 public:
  using Answer =
      std::function<void(absl::Status, const coordinator::ReplyBody&)>;
  using MakeEvent = std::function<coordinator::Event(coordinator::CallId)>;

  SimCoordinator(World& world, coordinator::CoreOptions options,
                 std::function<AgentEnd*(const std::string&)> agent_at);

  void Start();
  // What was ordered from the store before may or may not be durable.
  void Crash();

  // A unary or streaming call of an agent or a client; answered exactly once.
  // Returns a handle for Abandon.
  uint64_t Call(MakeEvent make, Answer answer);
  // The caller goes away: it gets no answer, the core hears of it.
  void Abandon(uint64_t call);
  // Asks the core at once, outside of the simulated network.
  coordinator::StatusSnapshot Status();
  bool Idle() const { return core_ == nullptr || core_->Idle(); }
  size_t open_calls() const { return calls_.size(); }
  // Durable records of one kind.
  template <typename T>
  std::vector<T> Records() const {
    std::vector<T> found;
    for (const auto& [key, record] : durable_) {
      if (const T* one = std::get_if<T>(&record)) found.push_back(*one);
    }
    return found;
  }

  // Breaks the agent's stream, if it has one.
  void BreakStream(const AgentEnd& agent);
  void Break(const StreamPtr& stream);
  // An agent's event on a stream.
  void Deliver(const StreamPtr& stream, const AgentEvent& event);

  Weather weather;
  // Agents that cannot be reached now, by name.
  std::map<std::string, bool> cut;

 private:
  struct Target {
    Incarnation incarnation;
    std::string address;
    uint64_t serial = 0;
    StreamPtr stream;
  };

  absl::Duration Delay();
  void Step(const coordinator::Event& event);
  void Tick();
  void RunOne(const coordinator::Effect& effect);
  void Run(const coordinator::Reply& order);
  void Run(const coordinator::StreamUpdate&) {}
  void Run(const coordinator::ConnectAgent& order);
  void Run(const coordinator::DisconnectAgent& order);
  void Run(const coordinator::SendCommand& order);
  void Run(const coordinator::Persist& order);
  void Run(const coordinator::MakePlan& order);
  void Run(const coordinator::Fatal& order);
  void TryConnect(Rank rank, uint64_t serial);
  void Send(const StreamPtr& stream, const Command& command);
  void WriteNext();
  void Apply(const coordinator::Record& record);

  const coordinator::CoreOptions options_;
  const std::function<AgentEnd*(const std::string&)> agent_at_;
  std::unique_ptr<coordinator::CoordinatorCore> core_;
  std::map<Rank, Target> targets_;
  uint64_t next_serial_ = 1;
  std::map<uint64_t, Answer> calls_;
  uint64_t next_call_ = 1;
  std::map<std::string, coordinator::Record> durable_;
  std::deque<coordinator::Persist> writing_;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_SIM_COORDINATOR_H_
