#ifndef SLUICE_AGENT_AGENT_SERVICE_H_
#define SLUICE_AGENT_AGENT_SERVICE_H_

// proto/sluice/v1/agent_service.proto: the coordinator's command stream.
// Decodes commands for the host, encodes its events.

#include "agent/host.h"
#include "proto/sluice/v1/agent_service.grpc.pb.h"

namespace sluice::agent {

// `host` must outlive the server.
class AgentServiceImpl final : public v1::AgentService::CallbackService {
 public:
  explicit AgentServiceImpl(AgentHost& host) : host_(host) {}

  grpc::ServerBidiReactor<v1::Command, v1::AgentEvent>* CommandStream(
      grpc::CallbackServerContext* context) override;

 private:
  AgentHost& host_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_AGENT_SERVICE_H_
