#ifndef SLUICE_AGENT_SERVER_H_
#define SLUICE_AGENT_SERVER_H_

// One agent, wired together: device, host, executor, sockets, services and the
// lease at the coordinator.

#include <grpcpp/server.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/agent_service.h"
#include "agent/buffer_registry.h"
#include "agent/coordinator_client.h"
#include "agent/core/agent_options.h"
#include "agent/descriptor_socket.h"
#include "agent/descriptor_table.h"
#include "agent/device/host_device.h"
#include "agent/executor_interface.h"
#include "agent/host.h"
#include "agent/peer_directory.h"
#include "agent/source_table.h"
#include "agent/worker_service.h"
#include "common/clock.h"
#include "common/daemon.h"
#include "common/ids.h"

namespace sluice::agent {

class AgentServer {
 public:
  struct Options {
    std::string name;         // unique in the cluster; no '/'
    std::string node;         // agents of one node share memory
    std::string coordinator;  // host:port
    std::string listen = "127.0.0.1:0";
    // What the coordinator dials, if it is not the address listened on; a port
    // of 0 stands for the one listened on.
    std::string advertise;
    bool insecure = false;   // allows addresses beyond loopback: no encryption
    std::string socket_dir;  // created with mode 0700
    int64_t memory_bytes = int64_t{4} << 30;
    int64_t staging_bytes = int64_t{64} << 20;

    // Errors: INVALID_ARGUMENT - names the field, what is expected and found.
    absl::Status Validate() const;
  };
  // Makes the executor; what it is given outlives it.
  struct ExecutorDeps {
    ExecutorCallbacks callbacks;
    PeerDirectory& peers;
    const Clock& clock;
  };
  using ExecutorFactory =
      std::function<absl::StatusOr<std::unique_ptr<TransferExecutor>>(
          ExecutorDeps)>;

  // Serves when it returns. Errors: INVALID_ARGUMENT; FAILED_PRECONDITION - a
  // folder that cannot be written, an address beyond loopback; ALREADY_EXISTS -
  // the port is in use, or an agent of this name runs on this socket folder.
  static absl::StatusOr<std::unique_ptr<AgentServer>> Start(
      Options options, const ExecutorFactory& make_executor);
  // As Shutdown.
  ~AgentServer();
  AgentServer(const AgentServer&) = delete;
  AgentServer& operator=(const AgentServer&) = delete;

  int port() const { return port_; }
  Incarnation incarnation() const { return incarnation_; }
  // Socket of the WorkerService.
  const std::string& worker_socket() const { return worker_socket_; }

  // Tells the coordinator that this agent leaves, and waits for its operations
  // to end. Errors: DEADLINE_EXCEEDED - some still run.
  absl::Status Drain(absl::Duration timeout);
  // Ends everything: operations, calls, sessions, threads; removes the sockets.
  void Shutdown();

 private:
  AgentServer(Options options, Incarnation incarnation);

  absl::Status TakeDirectory();
  std::string LockPath() const;
  absl::Status StartExecutor(const ExecutorFactory& make_executor);
  absl::Status StartGrpc();
  void StartMembership();

  const Options options_;
  const Incarnation incarnation_;
  const std::string worker_socket_;
  int port_ = 0;
  bool shut_down_ = false;

  // In order of construction: each may use those above it.
  SystemClock clock_;
  HostDevice device_;
  std::unique_ptr<LockFile> lock_;
  BufferRegistry buffers_;
  DescriptorTable descriptors_;
  SourceTable sources_;
  SocketPeerDirectory peers_;
  AgentHost host_;
  std::unique_ptr<TransferExecutor> executor_;
  std::unique_ptr<DescriptorSocket> descriptor_socket_;
  AgentServiceImpl agent_service_;
  WorkerServiceImpl worker_service_;
  std::unique_ptr<grpc::Server> grpc_;  // ends before the services
  std::unique_ptr<CoordinatorClient> coordinator_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_SERVER_H_
