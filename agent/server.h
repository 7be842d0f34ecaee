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
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "agent/agent_device.h"
#include "agent/agent_service.h"
#include "agent/buffer_registry.h"
#include "agent/collective/collective.h"
#include "agent/collective/group_table.h"
#include "agent/collective/host_group.h"
#include "agent/collective/reduce_groups.h"
#include "agent/coordinator_client.h"
#include "agent/core/agent_options.h"
#include "agent/counted_device.h"
#include "agent/descriptor_socket.h"
#include "agent/descriptor_table.h"
#include "agent/executor_interface.h"
#include "agent/host.h"
#include "agent/message_lane.h"
#include "agent/nccl/gpu_copies.h"
#include "agent/nccl/gpu_groups.h"
#include "agent/nccl/gpu_lanes.h"
#include "agent/peer_directory.h"
#include "agent/socket_group_directory.h"
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
    std::string device = "host";  // or "cuda", "cuda:N"
    // Used where `device` is a GPU.
    AgentDevice::LoadCuda load_cuda;
    GpuGroups::Options nccl = {};
    int64_t gpu_blocks = 0;  // see CudaPieceMover
    // Where the second copy of a placement lies, "device" or "pinned" memory of
    // the host: the current version is in either, by turns.
    std::string second_copy = "device";
    // Pins memory of the host that workers lend for placements.
    bool pin_lent = false;

    // Errors: INVALID_ARGUMENT - names the field, what is expected and found.
    absl::Status Validate() const;
  };
  // Makes the executor; what it is given outlives it.
  struct ExecutorDeps {
    ExecutorCallbacks callbacks;
    PeerDirectory& peers;
    const Clock& clock;
    AgentDevice& device;
    MessageLanes* lanes;  // null where no GPU is served
  };
  using ExecutorFactory =
      std::function<absl::StatusOr<std::unique_ptr<TransferExecutor>>(
          ExecutorDeps)>;

  // Exit code of an agent whose GPU's collectives do not end (EX_TEMPFAIL): to
  // be started again, and to join as a new incarnation.
  static constexpr int kStuckExit = 75;

  // Serves when it returns. Without `make_group`, workers' groups are those of
  // host memory. Errors: INVALID_ARGUMENT; FAILED_PRECONDITION - a folder that
  // cannot be written, an address beyond loopback; ALREADY_EXISTS - the port is
  // in use, or an agent of this name runs on this socket folder; those of
  // AgentDevice::Open.
  static absl::StatusOr<std::unique_ptr<AgentServer>> Start(
      Options options, const ExecutorFactory& make_executor,
      ReduceGroups::MakeGroup make_group = {});
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
  AgentServer(Options options, std::unique_ptr<AgentDevice> device,
              Incarnation incarnation, ReduceGroups::MakeGroup make_group);

  absl::Status TakeDirectory();
  std::string LockPath() const;
  absl::Status StartExecutor(const ExecutorFactory& make_executor);
  absl::Status StartGrpc();
  void StartMembership();
  // Counts memory of reduce groups with all that the agent uses. Not to be
  // called on the host's thread, which answers.
  absl::Status TakeMemory(int64_t bytes, absl::string_view label);
  // Of host memory; its calls run on threads of its own.
  absl::StatusOr<std::unique_ptr<CollectiveGroup>> MakeHostMember(
      CollectiveMembers members, HostGroupOptions options);
  // What groups of GPUs need; without it, they say why.
  void OpenGpuGroups();
  GpuSeat Seat() const;
  CountedDevice::Account ReduceAccount();
  // What reduce groups are made with.
  ReduceGroups::Deps ReduceDeps(ReduceGroups::MakeGroup make_group);

  const Options options_;
  const Incarnation incarnation_;
  const std::string worker_socket_;
  int port_ = 0;
  bool shut_down_ = false;

  // In order of construction: each may use those above it.
  SystemClock clock_;
  const std::unique_ptr<AgentDevice> device_;
  std::unique_ptr<LockFile> lock_;
  BufferRegistry buffers_;
  DescriptorTable descriptors_;
  SourceTable sources_;
  GroupTable groups_;
  SocketGroupDirectory group_directory_{groups_};
  SocketPeerDirectory peers_;
  // Of their buckets: those of host memory, and of the GPU where one is served.
  CountedDevice reduce_device_;
  CountedDevice gpu_reduce_device_;
  ReduceGroups reduce_groups_;
  // Null where no GPU is served. Operations have lanes of it.
  std::unique_ptr<GpuLanes> gpu_lanes_;
  AgentHost host_;
  std::unique_ptr<TransferExecutor> executor_;
  // Null where no GPU is served, or there is no NCCL for it.
  std::unique_ptr<GpuGroups> gpu_groups_;
  absl::Status gpu_groups_refused_;
  std::unique_ptr<DescriptorSocket> descriptor_socket_;
  AgentServiceImpl agent_service_;
  WorkerServiceImpl worker_service_;
  std::unique_ptr<grpc::Server> grpc_;  // ends before the services
  std::unique_ptr<CoordinatorClient> coordinator_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_SERVER_H_
