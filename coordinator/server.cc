#include "coordinator/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include <chrono>
#include <utility>

#include "common/daemon.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "coordinator/services/catalog_service.h"
#include "coordinator/services/membership_service.h"
#include "coordinator/services/model_service.h"
#include "coordinator/services/status_service.h"

namespace sluice::coordinator {
namespace {

// Agents and clients ping to find out whether the coordinator is there; more
// often than this is abuse.
constexpr int kMinPingIntervalMs = 500;
// A peer that answers no ping for time + timeout is gone.
constexpr int kKeepaliveTimeMs = 10000;
constexpr int kKeepaliveTimeoutMs = 5000;
constexpr int kMaxConcurrentStreams = 1024;
constexpr int kMaxThreads = 64;
// What is left after every call was answered.
constexpr auto kServerShutdown = std::chrono::milliseconds(500);

void SetChannelArguments(grpc::ServerBuilder& builder) {
  // With it two coordinators could listen on one port.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
      kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             kMaxConcurrentStreams);
}

}  // namespace

struct Server::Services {
  explicit Services(Host& host)
      : membership(host), catalog(host), model(host), status(host) {}

  MembershipService membership;
  CatalogService catalog;
  ModelService model;
  StatusService status;
};

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const Options& options,
                                                      Parts parts) {
  SLUICE_RETURN_IF_ERROR(CheckListenAddress(options.listen, options.insecure));
  std::unique_ptr<Server> server(new Server(options, std::move(parts)));
  SLUICE_RETURN_IF_ERROR(server->StartHost());
  SLUICE_RETURN_IF_ERROR(server->StartServing());
  return server;
}

Server::Server(const Options& options, Parts parts)
    : options_(options), parts_(std::move(parts)) {}

Server::~Server() { End(); }

absl::Status Server::StartHost() {
  Host::Deps deps{*parts_.clock,          *parts_.store,
                  *parts_.agents,         std::move(parts_.core),
                  std::move(parts_.plan), std::move(parts_.on_fatal),
                  options_.tick_interval};
  SLUICE_ASSIGN_OR_RETURN(host_, Host::Start(std::move(deps)));
  services_ = std::make_unique<Services>(*host_);
  return absl::OkStatus();
}

absl::Status Server::StartServing() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options_.listen, grpc::InsecureServerCredentials(),
                           &port_);
  SetChannelArguments(builder);
  builder.SetMaxReceiveMessageSize(
      static_cast<int>(options_.max_message_bytes));
  builder.SetMaxSendMessageSize(static_cast<int>(options_.max_message_bytes));
  // Reflection is a synchronous service: one thread is enough for it.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
  grpc::ResourceQuota quota("coordinator");
  quota.Resize(static_cast<size_t>(options_.max_buffer_bytes));
  quota.SetMaxThreads(kMaxThreads);
  builder.SetResourceQuota(quota);
  builder.RegisterService(&services_->membership);
  builder.RegisterService(&services_->catalog);
  builder.RegisterService(&services_->model);
  builder.RegisterService(&services_->status);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) return ExplainBindFailure(options_.listen);
  LogInfo("listening", {{"address", address()}});
  return absl::OkStatus();
}

std::string Server::address() const { return WithPort(options_.listen, port_); }

bool Server::Shutdown() {
  if (server_ == nullptr) return true;
  LogInfo("draining", {{"finish", options_.drain_finish}});
  if (auto* health = server_->GetHealthCheckService(); health != nullptr) {
    health->SetServingStatus(false);
  }
  const bool idle = host_->Drain(options_.drain_finish, options_.drain_abort);
  End();
  LogInfo("stopped", {{"idle", idle}});
  return idle;
}

void Server::End() {
  // Calls are answered first: the server waits for its reactors. Reactors use
  // the host, streams' callbacks use it too, so it goes after both.
  if (host_ != nullptr) host_->Stop();
  if (server_ != nullptr) {
    server_->Shutdown(std::chrono::system_clock::now() + kServerShutdown);
  }
  server_.reset();
  services_.reset();
  parts_.agents.reset();
  host_.reset();
  parts_.store.reset();
}

}  // namespace sluice::coordinator
