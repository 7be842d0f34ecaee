#ifndef SLUICE_COORDINATOR_DISPATCH_COMMAND_DISPATCHER_H_
#define SLUICE_COORDINATOR_DISPATCH_COMMAND_DISPATCHER_H_

// Carries the core's orders about agents to their streams, and what the streams
// tell back to the core as events.

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "common/ids.h"
#include "coordinator/core/effects.h"
#include "coordinator/core/events.h"
#include "coordinator/dispatch/agent_client.h"

namespace sluice::coordinator {

// Thread rule: the host's executor only, which `post` posts to.
//
// Invariants: at most one client per rank; an event of a client that was
// replaced or disconnected never reaches `handle`.
class CommandDispatcher {
 public:
  using Task = absl::AnyInvocable<void() &&>;

  // `post` runs a task on the host's executor, from any thread; `handle` hands
  // an event to the core.
  CommandDispatcher(AgentClientFactory& factory, std::function<void(Task)> post,
                    std::function<void(const Event&)> handle);
  CommandDispatcher(const CommandDispatcher&) = delete;
  CommandDispatcher& operator=(const CommandDispatcher&) = delete;

  void Run(const ConnectAgent& order);
  void Run(const DisconnectAgent& order);
  void Run(const SendCommand& order);
  // Ends all streams; nothing reaches `handle` any more.
  void CloseAll() { connections_.clear(); }

 private:
  struct Connection {
    uint64_t number = 0;
    Incarnation incarnation;
    std::unique_ptr<AgentClient> client;
  };

  // Posts `event` for as long as connection `number` is the rank's.
  void Forward(Rank rank, uint64_t number, Event event);

  AgentClientFactory& factory_;
  const std::function<void(Task)> post_;
  const std::function<void(const Event&)> handle_;
  uint64_t last_number_ = 0;
  absl::flat_hash_map<Rank, Connection> connections_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_DISPATCH_COMMAND_DISPATCHER_H_
