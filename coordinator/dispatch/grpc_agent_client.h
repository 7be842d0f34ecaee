#ifndef SLUICE_COORDINATOR_DISPATCH_GRPC_AGENT_CLIENT_H_
#define SLUICE_COORDINATOR_DISPATCH_GRPC_AGENT_CLIENT_H_

// Command streams over gRPC.
//
// An attempt to connect: a fresh channel, one health check (an agent that is
// stopped or gone does not answer it), then the stream. A failed attempt or a
// broken stream is followed by another attempt after a delay that doubles, with
// jitter; an agent that has sent something on the stream resets it.

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/callback_anchor.h"
#include "common/convert_limits.h"
#include "coordinator/dispatch/agent_client.h"

namespace sluice::coordinator {

struct GrpcAgentClientOptions {
  // The first attempt after a break comes within this time.
  absl::Duration first_retry = absl::Milliseconds(40);
  absl::Duration max_retry = absl::Seconds(1);
  // How long an agent may take to answer the health check.
  absl::Duration connect_timeout = absl::Seconds(2);
  // A peer that answers no ping for time + timeout breaks the stream. Longer
  // than the default lease: an agent that stops for less keeps its stream, one
  // that stops for longer is lost by its lease.
  absl::Duration keepalive_time = absl::Seconds(10);
  absl::Duration keepalive_timeout = absl::Seconds(5);
  // Commands waiting to be written; more break the stream, and the core sends
  // again what matters.
  int64_t max_queued_commands = 16384;
  int64_t max_queued_bytes = int64_t{64} << 20;
  // A larger command is answered RESOURCE_EXHAUSTED in the agent's place.
  int64_t max_message_bytes = kMaxControlMessageBytes;
};

class GrpcAgentClientFactory final : public AgentClientFactory {
 public:
  explicit GrpcAgentClientFactory(GrpcAgentClientOptions options = {});
  // Waits for running callbacks to end.
  ~GrpcAgentClientFactory() override;

  std::unique_ptr<AgentClient> Connect(const AgentTarget& target,
                                       AgentStreamCallbacks callbacks) override;

 private:
  class Tracker;
  class Stream;
  class Connection;
  class Client;

  const GrpcAgentClientOptions options_;
  // Channels are destroyed in callbacks.
  const CallbackAnchor anchor_;
  const std::shared_ptr<Tracker> tracker_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_DISPATCH_GRPC_AGENT_CLIENT_H_
