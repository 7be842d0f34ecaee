#include "agent/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <future>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/collective/host_group.h"
#include "agent/core/effects.h"
#include "agent/core/events.h"
#include "agent/grpc_coordinator_client.h"
#include "agent/nccl/refused_group.h"
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

// Of eight that fill one: what copies of reduce groups take beside others.
constexpr int kCopyBlocksPerMultiprocessor = 2;

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

// As NCCL tells devices apart: by host, then by where on it.
std::string NcclDeviceName(const std::string& boot_id,
                           const std::string& bus_id) {
  const char* host = std::getenv("NCCL_HOSTID");
  return absl::StrCat(host != nullptr ? host : boot_id, " ", bus_id);
}

std::string AdvertisedAddress(const AgentServer::Options& options, int port) {
  if (options.advertise.empty()) return WithPort(options.listen, port);
  if (!absl::EndsWith(options.advertise, ":0")) return options.advertise;
  return WithPort(options.advertise, port);
}

AgentHost::Options HostOptions(const AgentServer::Options& options,
                               Incarnation incarnation,
                               const std::string& device) {
  AgentHost::Options out;
  out.node = options.node;
  out.device = device;
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
  SLUICE_RETURN_IF_ERROR(AgentDevice::Check(device));
  if (second_copy != "device" && second_copy != "pinned") {
    return absl::InvalidArgumentError(
        absl::StrCat("second-copy: expected \"device\" or \"pinned\", found \"",
                     second_copy, "\""));
  }
  // The bounds of memory and staging are the core's.
  return HostOptions(*this, Incarnation(1), "host").core.Validate();
}

AgentServer::AgentServer(Options options, std::unique_ptr<AgentDevice> device,
                         Incarnation incarnation,
                         ReduceGroups::MakeGroup make_group)
    : options_(std::move(options)),
      incarnation_(incarnation),
      worker_socket_(GrpcSocketPath(options_.socket_dir, options_.name)),
      device_(std::move(device)),
      peers_(clock_, &device_->arenas()),
      reduce_device_(device_->host(), ReduceAccount()),
      gpu_reduce_device_(device_->arenas(), ReduceAccount()),
      reduce_groups_(ReduceDeps(std::move(make_group))),
      gpu_lanes_(
          device_->device_packer() == nullptr
              ? nullptr
              : std::make_unique<GpuLanes>(*device_->device_packer(), clock_)),
      host_(HostOptions(options_, incarnation, device_->kind()),
            {clock_, device_->arenas(), buffers_, sources_, peers_,
             [this](const std::vector<Peer>& peers) {
               if (gpu_groups_ != nullptr) gpu_groups_->SetPeers(peers);
               if (gpu_lanes_ != nullptr) gpu_lanes_->SetPeers(peers);
               reduce_groups_.EndWithout(peers);
             },
             [this](const std::vector<Peer>& peers) {
               reduce_groups_.SetPeers(peers);
             },
             &device_->host(), &device_->mover(),
             options_.second_copy == "pinned" ? device_->pinned() : nullptr,
             device_->pinned(), gpu_lanes_.get()}),
      agent_service_(host_),
      worker_service_(
          {host_, device_->arenas(), device_->host(),
           device_->lent(options_.pin_lent), buffers_, descriptors_,
           reduce_groups_,
           [this](const GpuMemoryOffer& offer) {
             return AdoptGpuMemory(Seat(), offer);
           }},
          {options_.name, incarnation, DescriptorSocketPath(worker_socket_)}) {}

absl::StatusOr<std::unique_ptr<AgentServer>> AgentServer::Start(
    Options options, const ExecutorFactory& make_executor,
    ReduceGroups::MakeGroup make_group) {
  SLUICE_RETURN_IF_ERROR(options.Validate());
  SLUICE_ASSIGN_OR_RETURN(
      std::unique_ptr<AgentDevice> device,
      AgentDevice::Open(options.device, options.load_cuda,
                        static_cast<uint32_t>(options.gpu_blocks)));
  if (device->runtime() != nullptr) {
    // Nothing here will ever work again: another life can.
    device->runtime()->OnContextLost([](const absl::Status& status) {
      LogError("the GPU's context is lost: this process ends",
               {{"status", status}});
      _exit(kStuckExit);
    });
  }
  std::unique_ptr<AgentServer> out(
      new AgentServer(std::move(options), std::move(device),
                      RandomIncarnation(), std::move(make_group)));
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
      executor_, make_executor({host_.MakeExecutorCallbacks(), peers_, clock_,
                                *device_, gpu_lanes_.get()}));
  OpenGpuGroups();
  host_.Start(*executor_);
  SLUICE_ASSIGN_OR_RETURN(
      descriptor_socket_,
      DescriptorSocket::Start(DescriptorSocketPath(worker_socket_),
                              {descriptors_, sources_, *executor_, &groups_}));
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
  self.device = device_->kind();
  self.device_description = device_->description();
  self.boot_id = BootId();
  if (device_->cuda() != nullptr) {
    if (gpu_groups_ != nullptr) {
      self.nccl_version = gpu_groups_->communicators().library().version();
      self.nccl_device =
          NcclDeviceName(self.boot_id, device_->cuda()->info().pci_bus_id);
    }
    absl::StrAppend(
        &self.device_description, ", ",
        gpu_groups_ != nullptr ? gpu_groups_->Describe() : "no NCCL");
  }
  self.pid = getpid();
  GrpcCoordinatorClient::Options client;
  client.address = options_.coordinator;
  coordinator_ = std::make_unique<GrpcCoordinatorClient>(client);
  coordinator_->Start(
      std::move(self),
      [this](const RegisteredEvent& event) { host_.Post(event); },
      [this] {
        BeatReport report;
        report.reduce_groups = reduce_groups_.Report();
        if (gpu_groups_ != nullptr) {
          report.nccl = gpu_groups_->communicators().Report();
        }
        return report;
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

CountedDevice::Account AgentServer::ReduceAccount() {
  return {[this](int64_t bytes, absl::string_view label) {
            return TakeMemory(bytes, label);
          },
          [this](int64_t bytes) { host_.Post(MemoryReturnedEvent{bytes}); }};
}

absl::Status AgentServer::TakeMemory(int64_t bytes, absl::string_view label) {
  auto answered = std::make_shared<std::promise<absl::Status>>();
  std::future<absl::Status> answer = answered->get_future();
  host_.Call(
      [bytes, text = std::string(label)](CallId call) {
        return TakeMemoryRequest{call, bytes, text};
      },
      [answered](const absl::Status& status, const ReplyBody&) {
        answered->set_value(status);
      });
  return answer.get();
}

absl::StatusOr<std::unique_ptr<CollectiveGroup>> AgentServer::MakeHostMember(
    CollectiveMembers members, HostGroupOptions options) {
  return MakeHostGroup(std::move(members),
                       {group_directory_, executor_->transport(), clock_},
                       std::move(options));
}

GpuSeat AgentServer::Seat() const {
  return {*device_->runtime(), *device_->cuda(), device_->index()};
}

void AgentServer::OpenGpuGroups() {
  if (device_->cuda() == nullptr) return;
  auto opened = GpuGroups::Create(
      {.seat = Seat(),
       .host = device_->host(),
       .make_host_group =
           [this](CollectiveMembers members, HostGroupOptions options) {
             return MakeHostMember(std::move(members), std::move(options));
           },
       .clock = clock_,
       .on_stuck = [](const std::string&) { _exit(kStuckExit); }},
      options_.nccl);
  if (opened.ok()) {
    gpu_groups_ = *std::move(opened);
    gpu_lanes_->Serve(gpu_groups_->communicators());
    return;
  }
  gpu_lanes_->Refuse(opened.status());
  gpu_groups_refused_ = opened.status();
  LogWarn("no groups of GPUs", {{"reason", gpu_groups_refused_}});
}

ReduceGroups::Deps AgentServer::ReduceDeps(ReduceGroups::MakeGroup make_group) {
  using Timeouts = ReduceGroups::Timeouts;
  ReduceGroups::Deps deps{reduce_device_, clock_, std::move(make_group),
                          options_.name};
  const HostGroupControls::MakeGroup make_host =
      [this](CollectiveMembers members, HostGroupOptions options) {
        return MakeHostMember(std::move(members), std::move(options));
      };
  if (!deps.make_group) {
    deps.make_group = [make_host](CollectiveMembers members,
                                  const Timeouts& t) {
      return make_host(std::move(members), {t.meet, t.progress});
    };
  }
  deps.make_refusal = [this, make_host](const CollectiveMembers& members,
                                        const absl::Status& why,
                                        const Timeouts& t) {
    return MakeRefusedGroup(members, why, device_->host(), make_host,
                            {t.meet, t.progress});
  };
  if (device_->cuda() == nullptr) return deps;
  deps.make_gpu_group = [this](CollectiveMembers members, const Timeouts& t) {
    return gpu_groups_->Make(members, {t.meet, t.progress});
  };
  deps.make_gpu_copies =
      [this]() -> absl::StatusOr<std::unique_ptr<ReduceCopies>> {
    if (gpu_groups_ == nullptr) return gpu_groups_refused_;
    const int blocks =
        kCopyBlocksPerMultiprocessor * device_->cuda()->info().multiprocessors;
    return MakeGpuReduceCopies(Seat(), gpu_reduce_device_,
                               static_cast<uint32_t>(blocks));
  };
  return deps;
}

void AgentServer::Shutdown() {
  if (std::exchange(shut_down_, true)) return;
  if (coordinator_ != nullptr) coordinator_->Stop();
  reduce_groups_.Shutdown();
  host_.Stop();
  if (grpc_ != nullptr) {
    grpc_->Shutdown(std::chrono::system_clock::now() + kGrpcGrace);
    grpc_.reset();
    unlink(worker_socket_.c_str());
  }
  if (gpu_lanes_ != nullptr) gpu_lanes_->Shutdown();
  gpu_groups_.reset();
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
