#include "coordinator/dispatch/command_dispatcher.h"

#include <catch2/catch.hpp>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "tests/fakes/fake_agent_client.h"

namespace sluice::coordinator {
namespace {

constexpr Rank kA{3};
constexpr Incarnation kOld{1};
constexpr Incarnation kNew{2};

// Posted tasks run when the test says so: what is underway can be overtaken.
struct Fixture {
  std::deque<CommandDispatcher::Task> tasks;
  std::vector<Event> events;
  testing::FakeAgentClientFactory agents;
  CommandDispatcher dispatcher{
      agents,
      [this](CommandDispatcher::Task task) {
        tasks.push_back(std::move(task));
      },
      [this](const Event& event) { events.push_back(event); }};

  void RunTasks() {
    while (!tasks.empty()) {
      CommandDispatcher::Task task = std::move(tasks.front());
      tasks.pop_front();
      std::move(task)();
    }
  }
};

SendCommand Execute(Incarnation incarnation, uint64_t id) {
  return {kA, incarnation,
          Command{CommandId(id), Epoch(1), ExecuteCommand{OperationId(9)}}};
}

TEST_CASE("a stream's ups, downs and messages become events of its rank",
          "[dispatch]") {
  Fixture f;
  f.dispatcher.Run(ConnectAgent{kA, kOld, "127.0.0.1:1"});
  CHECK(f.agents.WaitForTarget(kA)->address == "127.0.0.1:1");
  f.agents.Up(kA);
  f.agents.Emit(kA, AgentEvent{7, kOld, StoppedEvent{OperationId(9)}});
  f.agents.Down(kA, absl::UnavailableError("gone"));
  f.RunTasks();
  REQUIRE(f.events.size() == 3);
  CHECK(std::get<StreamUpEvent>(f.events[0]).incarnation == kOld);
  CHECK(std::get<AgentMessageEvent>(f.events[1]).rank == kA);
  CHECK(std::get<AgentMessageEvent>(f.events[1]).event.event_id == 7);
  CHECK(std::get<StreamDownEvent>(f.events[2]).rank == kA);
}

TEST_CASE("commands reach the open stream of the incarnation meant",
          "[dispatch]") {
  Fixture f;
  f.dispatcher.Run(Execute(kOld, 1));  // nobody is connected
  f.dispatcher.Run(ConnectAgent{kA, kOld, ""});
  f.dispatcher.Run(Execute(kOld, 2));  // the stream is not open yet
  f.agents.Up(kA);
  f.dispatcher.Run(Execute(kNew, 3));  // another life is meant
  f.dispatcher.Run(Execute(kOld, 4));
  CHECK(f.agents.NextCommand(kA)->id == CommandId(4));
}

TEST_CASE("what a replaced stream still tells is dropped", "[dispatch]") {
  Fixture f;
  f.dispatcher.Run(ConnectAgent{kA, kOld, ""});
  f.agents.Up(kA);
  f.agents.Emit(kA, AgentEvent{1, kOld, StoppedEvent{}});
  // The new life registers before the old one's messages are handled.
  f.dispatcher.Run(ConnectAgent{kA, kNew, ""});
  f.agents.Up(kA);
  f.RunTasks();
  REQUIRE(f.events.size() == 1);
  CHECK(std::get<StreamUpEvent>(f.events[0]).incarnation == kNew);
  CHECK(f.agents.connects(kA) == 2);
}

TEST_CASE("after a disconnect nothing comes and nothing is sent",
          "[dispatch]") {
  Fixture f;
  f.dispatcher.Run(ConnectAgent{kA, kOld, ""});
  f.agents.Up(kA);
  f.dispatcher.Run(DisconnectAgent{kA});
  f.dispatcher.Run(Execute(kOld, 1));
  f.RunTasks();
  CHECK(f.events.empty());
  CHECK_FALSE(f.agents.connected(kA));
}

}  // namespace
}  // namespace sluice::coordinator
