#ifndef SLUICE_COORDINATOR_DISPATCH_AGENT_CLIENT_H_
#define SLUICE_COORDINATOR_DISPATCH_AGENT_CLIENT_H_

// The seam between the coordinator and its agents: one ordered command stream
// to each. Over gRPC (grpc_agent_client.h) or, in tests, in memory
// (tests/fakes/fake_agent_client.h).

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "common/command.h"
#include "common/ids.h"

namespace sluice::coordinator {

// One life of one agent.
struct AgentTarget {
  Rank rank = kNoRank;
  Incarnation incarnation;
  std::string address;  // host:port of its AgentService
};

// What happens on a stream. Called on any thread, one at a time, never from
// inside Connect, Send or a destructor's caller's lock; they must not block.
struct AgentStreamCallbacks {
  // The stream is open: commands sent from now on reach the agent in order, or
  // the stream breaks.
  std::function<void()> up;
  // The stream that was up is broken; commands not answered may be lost.
  std::function<void(const absl::Status& why)> down;
  std::function<void(AgentEvent event)> event;
};

// Keeps a stream to its target open: opens it again, soon and with backoff,
// whenever it breaks, until the client is destroyed. Thread-safe.
class AgentClient {
 public:
  // Ends the stream. A callback that runs meanwhile may end after this; none
  // comes after the factory's destructor.
  virtual ~AgentClient() = default;
  // Appends a command to the open stream; drops it if none is open. A queue
  // that is full breaks the stream.
  virtual void Send(const Command& command) = 0;
};

// Outlives its clients. Thread-safe.
class AgentClientFactory {
 public:
  virtual ~AgentClientFactory() = default;
  virtual std::unique_ptr<AgentClient> Connect(
      const AgentTarget& target, AgentStreamCallbacks callbacks) = 0;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_DISPATCH_AGENT_CLIENT_H_
