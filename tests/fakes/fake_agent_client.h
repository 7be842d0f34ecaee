#ifndef SLUICE_TESTS_FAKES_FAKE_AGENT_CLIENT_H_
#define SLUICE_TESTS_FAKES_FAKE_AGENT_CLIENT_H_

// Command streams in memory: a test plays the agents.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "coordinator/dispatch/agent_client.h"

namespace sluice::testing {

// Thread-safe. A stream is open from Up to Down or to the client's end.
class FakeAgentClientFactory final : public coordinator::AgentClientFactory {
 public:
  std::unique_ptr<coordinator::AgentClient> Connect(
      const coordinator::AgentTarget& target,
      coordinator::AgentStreamCallbacks callbacks) override {
    MutexLock lock(mutex_);
    State& state = states_[target.rank];
    state.target = target;
    state.callbacks = std::move(callbacks);
    state.up = false;
    const int number = ++state.number;
    changed_.SignalAll();
    return std::make_unique<Client>(*this, target.rank, number);
  }

  // Waits until somebody connects to `rank`; the target, or nothing in 10 s.
  std::optional<coordinator::AgentTarget> WaitForTarget(Rank rank) {
    MutexLock lock(mutex_);
    while (!states_.contains(rank) || !states_[rank].callbacks.up) {
      if (!changed_.WaitFor(mutex_, absl::Seconds(10))) return std::nullopt;
    }
    return states_[rank].target;
  }

  void Up(Rank rank) {
    std::function<void()> up;
    {
      MutexLock lock(mutex_);
      states_[rank].up = true;
      up = states_[rank].callbacks.up;
    }
    if (up) up();
  }

  void Down(Rank rank, const absl::Status& why) {
    std::function<void(const absl::Status&)> down;
    {
      MutexLock lock(mutex_);
      states_[rank].up = false;
      down = states_[rank].callbacks.down;
    }
    if (down) down(why);
  }

  void Emit(Rank rank, AgentEvent event) {
    std::function<void(AgentEvent)> emit;
    {
      MutexLock lock(mutex_);
      emit = states_[rank].callbacks.event;
    }
    if (emit) emit(std::move(event));
  }

  // Waits for the next command to `rank` not returned yet; nothing in 10 s.
  std::optional<Command> NextCommand(Rank rank) {
    MutexLock lock(mutex_);
    while (states_[rank].commands.empty()) {
      if (!changed_.WaitFor(mutex_, absl::Seconds(10))) return std::nullopt;
    }
    Command command = std::move(states_[rank].commands.front());
    states_[rank].commands.erase(states_[rank].commands.begin());
    return command;
  }

  // Number of times somebody connected to `rank`, and whether it still is.
  int connects(Rank rank) {
    MutexLock lock(mutex_);
    return states_[rank].number;
  }
  bool connected(Rank rank) {
    MutexLock lock(mutex_);
    return static_cast<bool>(states_[rank].callbacks.up);
  }

 private:
  struct State {
    coordinator::AgentTarget target;
    coordinator::AgentStreamCallbacks callbacks;
    bool up = false;
    int number = 0;
    std::vector<Command> commands;
  };

  class Client final : public coordinator::AgentClient {
   public:
    Client(FakeAgentClientFactory& factory, Rank rank, int number)
        : factory_(factory), rank_(rank), number_(number) {}
    ~Client() override {
      MutexLock lock(factory_.mutex_);
      State& state = factory_.states_[rank_];
      if (state.number != number_) return;
      state.callbacks = {};
      state.up = false;
    }
    void Send(const Command& command) override {
      MutexLock lock(factory_.mutex_);
      State& state = factory_.states_[rank_];
      if (!state.up || state.number != number_) return;
      state.commands.push_back(command);
      factory_.changed_.SignalAll();
    }

   private:
    FakeAgentClientFactory& factory_;
    const Rank rank_;
    const int number_;
  };

  Mutex mutex_;
  CondVar changed_;
  std::map<Rank, State> states_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_FAKES_FAKE_AGENT_CLIENT_H_
