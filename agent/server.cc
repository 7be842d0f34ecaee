#include "agent/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/grpc_coordinator_client.h"
#include "agent/socket_paths.h"
#include "common/convert_limits.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// How long RPCs under way may take to end once everything they wait for has.
constexpr auto kGrpcGrace = std::chrono::milliseconds(300);
// Part of the time to drain that the coordinator may take to answer.
constexpr absl::Duration kDrainRpc = absl::Seconds(2);

Incarnation RandomIncarnation() {
  std::random_device device;
  uint64_t value = 0;
  while (value == 0) {
    value = (static_cast<uint64_t>(device()) << 32) | device();
  }
  return Incarnation(value);
}

std::string BootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

std::string AdvertisedAddress(const AgentServer::Options& options, int port) {
  if (options.advertise.empty()) return WithPort(options.listen, port);
  if (!absl::EndsWith(options.advertise, ":0")) return options.advertise;
  return WithPort(options.advertise, port);
}

AgentHost::Options HostOptions(const AgentServer::Options& options,
                               Incarnation incarnation) {
  AgentHost::Options out;
  out.node = options.node;
  out.core.name = options.name;
  out.core.incarnation = incarnation;
  out.core.memory_bytes = options.memory_bytes;
  out.core.staging_bytes = options.staging_bytes;
  return out;
}

}  // namespace

absl::Status AgentServer::Options::Validate() const {
  SLUICE_RETURN_IF_ERROR(CheckName("name", name, kMaxAgentNameBytes));
  if (absl::StrContains(name, '/')) {
    return absl::InvalidArgumentError(
        absl::StrCat("name \"", name, "\": expected no '/'"));
  }
  SLUICE_RETURN_IF_ERROR(CheckName("node", node, kMaxNodeNameBytes));
  SLUICE_RETURN_IF_ERROR(
      CheckName("coordinator", coordinator, kMaxAddressBytes));
  SLUICE_RETURN_IF_ERROR(CheckText("advertise", advertise, kMaxAddressBytes));
  if (socket_dir.empty()) {
    return absl::InvalidArgumentError("socket-dir: expected a folder");
  }
  const std::string socket = GrpcSocketPath(socket_dir, name);
  if (socket.size() > kMaxSocketPathBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "socket-dir and name: the socket \"", socket, "\" has ", socket.size(),
        " bytes: a Unix socket's path may have ", kMaxSocketPathBytes));
  }
  SLUICE_RETURN_IF_ERROR(CheckListenAddress(listen, insecure));
  // The bounds of memory and staging are the core's.
  return HostOptions(*this, Incarnation(1)).core.Validate();
}

AgentServer::AgentServer(Options options, Incarnation incarnation)
    : options_(std::move(options)),
      incarnation_(incarnation),
      worker_socket_(GrpcSocketPath(options_.socket_dir, options_.name)),
      peers_(clock_),
      host_(HostOptions(options_, incarnation),
            {clock_, device_, buffers_, sources_, peers_}),
      agent_service_(host_),
      worker_service_(
          {host_, device_, buffers_, descriptors_},
          {options_.name, incarnation, DescriptorSocketPath(worker_socket_)}) {}

absl::StatusOr<std::unique_ptr<AgentServer>> AgentServer::Start(
    Options options, const ExecutorFactory& make_executor) {
  SLUICE_RETURN_IF_ERROR(options.Validate());
  std::unique_ptr<AgentServer> out(
      new AgentServer(std::move(options), RandomIncarnation()));
  SLUICE_RETURN_IF_ERROR(out->TakeDirectory());
  SLUICE_RETURN_IF_ERROR(out->StartExecutor(make_executor));
  SLUICE_RETURN_IF_ERROR(out->StartGrpc());
  out->StartMembership();
  return out;
}

AgentServer::~AgentServer() { Shutdown(); }

absl::Status AgentServer::TakeDirectory() {
  SLUICE_RETURN_IF_ERROR(MakeWritableDirectory(options_.socket_dir));
  // Sockets of a predecessor that was killed are replaced; those of one that
  // lives are not.
  SLUICE_ASSIGN_OR_RETURN(lock_, LockFile::Acquire(LockPath()));
  return absl::OkStatus();
}

absl::Status AgentServer::StartExecutor(const ExecutorFactory& make_executor) {
  SLUICE_ASSIGN_OR_RETURN(
      executor_,
      make_executor({host_.MakeExecutorCallbacks(), peers_, clock_}));
  host_.Start(*executor_);
  SLUICE_ASSIGN_OR_RETURN(
      descriptor_socket_,
      DescriptorSocket::Start(DescriptorSocketPath(worker_socket_),
                              {descriptors_, sources_, *executor_}));
  return absl::OkStatus();
}

absl::Status AgentServer::StartGrpc() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxControlMessageBytes));
  builder.SetMaxSendMessageSize(static_cast<int>(kMaxControlMessageBytes));
  // Two agents on one port would share its connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // The coordinator may look for a dead connection as often as once a second.
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 500);
  builder.AddListeningPort(options_.listen, grpc::InsecureServerCredentials(),
                           &port_);
  builder.AddListeningPort(absl::StrCat("unix:", worker_socket_),
                           grpc::InsecureServerCredentials());
  builder.RegisterService(&agent_service_);
  builder.RegisterService(&worker_service_);
  unlink(worker_socket_.c_str());
  grpc_ = builder.BuildAndStart();
  if (grpc_ == nullptr || port_ == 0) {
    return ExplainBindFailure(options_.listen);
  }
  return absl::OkStatus();
}

void AgentServer::StartMembership() {
  Registration self;
  self.name = options_.name;
  self.node = options_.node;
  self.incarnation = incarnation_;
  self.address = AdvertisedAddress(options_, port_);
  self.socket_path = worker_socket_;
  self.network_address = executor_->NetworkAddress();
  self.memory_bytes = options_.memory_bytes;
  self.staging_bytes = options_.staging_bytes;
  self.device = device_.Kind();
  self.boot_id = BootId();
  self.pid = getpid();
  GrpcCoordinatorClient::Options client;
  client.address = options_.coordinator;
  coordinator_ = std::make_unique<GrpcCoordinatorClient>(client);
  coordinator_->Start(std::move(self), [this](const RegisteredEvent& event) {
    host_.Post(event);
  });
}

absl::Status AgentServer::Drain(absl::Duration timeout) {
  const absl::Time deadline = clock_.Now() + timeout;
  const absl::Status told = coordinator_->Drain(std::min(timeout, kDrainRpc));
  if (!told.ok()) {
    LogWarn("leaving without the coordinator's consent", {{"status", told}});
  }
  if (host_.WaitIdle(deadline - clock_.Now())) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat("operations still run after ",
                                                  absl::FormatDuration(timeout),
                                                  "; they are ended"));
}

void AgentServer::Shutdown() {
  if (std::exchange(shut_down_, true)) return;
  if (coordinator_ != nullptr) coordinator_->Stop();
  host_.Stop();
  if (grpc_ != nullptr) {
    grpc_->Shutdown(std::chrono::system_clock::now() + kGrpcGrace);
    grpc_.reset();
    unlink(worker_socket_.c_str());
  }
  descriptor_socket_.reset();
  executor_.reset();
  if (lock_ != nullptr) {
    unlink(LockPath().c_str());
    lock_.reset();
  }
}

std::string AgentServer::LockPath() const {
  return absl::StrCat(options_.socket_dir, "/", options_.name, ".lock");
}

}  // namespace sluice::agent
