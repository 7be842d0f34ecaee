#include "agent/grpc_coordinator_client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/convert_nccl_report.h"
#include "common/convert_reduce_report.h"
#include "common/convert_repeated.h"
#include "common/convert_time.h"
#include "common/logging.h"
#include "common/status_grpc.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  // Not shared with any other channel of this process.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // In truth the time one attempt may take: a busy machine needs its while.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   arguments);
}

void SetDeadline(grpc::ClientContext& context, absl::Duration timeout) {
  context.set_deadline(std::chrono::system_clock::now() +
                       absl::ToChronoMicroseconds(timeout));
}

}  // namespace

GrpcCoordinatorClient::GrpcCoordinatorClient(Options options)
    : options_(std::move(options)),
      stub_(v1::MembershipService::NewStub(MakeChannel(options_.address))),
      backoff_(options_.first_backoff) {}

GrpcCoordinatorClient::~GrpcCoordinatorClient() { Stop(); }

void GrpcCoordinatorClient::Start(
    Registration self,
    std::function<void(const RegisteredEvent&)> on_registered,
    std::function<BeatReport()> report) {
  self_ = std::move(self);
  on_registered_ = std::move(on_registered);
  report_ = std::move(report);
  random_.seed(static_cast<uint32_t>(self_.incarnation.value()));
  thread_ = std::thread([this] { Run(); });
}

void GrpcCoordinatorClient::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

bool GrpcCoordinatorClient::Sleep(absl::Duration duration) {
  const absl::Time until = SystemClock().Now() + duration;
  MutexLock lock(mutex_);
  while (!stopping_) {
    const absl::Duration left = until - SystemClock().Now();
    if (left <= absl::ZeroDuration()) return true;
    changed_.WaitFor(mutex_, std::min(left, duration));
  }
  return false;
}

absl::Duration GrpcCoordinatorClient::NextBackoff() {
  const absl::Duration base = backoff_;
  backoff_ = std::min(backoff_ * 2, options_.max_backoff);
  return base * std::uniform_real_distribution<double>(0.5, 1.5)(random_);
}

absl::StatusOr<GrpcCoordinatorClient::Lease> GrpcCoordinatorClient::Register() {
  v1::RegisterRequest request;
  request.set_name(self_.name);
  request.set_node(self_.node);
  request.set_incarnation(self_.incarnation.value());
  request.set_address(self_.address);
  request.set_socket_path(self_.socket_path);
  request.set_network_address(self_.network_address);
  request.set_memory_bytes(self_.memory_bytes);
  request.set_staging_bytes(self_.staging_bytes);
  request.set_cluster_id(cluster_id_);
  request.set_device(self_.device);
  request.set_device_description(self_.device_description);
  request.set_boot_id(self_.boot_id);
  request.set_pid(self_.pid);
  request.set_nccl_version(self_.nccl_version);
  request.set_nccl_device(self_.nccl_device);
  v1::RegisterResponse response;
  grpc::ClientContext context;
  SetDeadline(context, options_.rpc_deadline);
  SLUICE_RETURN_IF_ERROR(
      FromGrpcStatus(stub_->Register(&context, request, &response)));
  SLUICE_ASSIGN_OR_RETURN(
      const absl::Duration interval,
      DurationFromProto("heartbeat_interval", response.heartbeat_interval()));
  if (interval < absl::Milliseconds(1)) {
    return absl::InternalError("registered with no heartbeat interval");
  }
  cluster_id_ = response.cluster_id();
  on_registered_({Rank(response.rank()), Epoch(response.epoch()), cluster_id_});
  return Lease{Epoch(response.epoch()), interval};
}

absl::Status GrpcCoordinatorClient::Beat(const Lease& lease) {
  v1::HeartbeatRequest request;
  request.set_name(self_.name);
  request.set_incarnation(self_.incarnation.value());
  if (report_) {
    const BeatReport report = report_();
    AppendProtos(report.reduce_groups, *request.mutable_reduce_groups());
    *request.mutable_nccl() = ToProto(report.nccl);
  }
  v1::HeartbeatResponse response;
  grpc::ClientContext context;
  SetDeadline(context, std::max(lease.interval, absl::Seconds(1)));
  SLUICE_RETURN_IF_ERROR(
      FromGrpcStatus(stub_->Heartbeat(&context, request, &response)));
  if (Epoch(response.epoch()) != lease.epoch) {
    return absl::AbortedError(absl::StrCat("epoch ", response.epoch(),
                                           " follows ", lease.epoch.value()));
  }
  return absl::OkStatus();
}

void GrpcCoordinatorClient::Run() {
  pthread_setname_np(pthread_self(), "heartbeat");
  bool complained = false;
  bool running = true;
  while (running) {
    const absl::StatusOr<Lease> lease = Register();
    if (!lease.ok()) {
      if (!std::exchange(complained, true)) {
        LogWarn("not registered, retrying", {{"coordinator", options_.address},
                                             {"status", lease.status()}});
      }
      running = Sleep(NextBackoff());
      continue;
    }
    complained = false;
    LogInfo("registered",
            {{"coordinator", options_.address}, {"epoch", lease->epoch}});
    // Beats until the coordinator wants another registration.
    while (running) {
      const absl::Status status = Beat(*lease);
      if (absl::IsNotFound(status) || absl::IsAborted(status)) {
        LogInfo("registering again", {{"reason", status}});
        break;
      }
      if (status.ok()) {
        backoff_ = options_.first_backoff;
        complained = false;
        running = Sleep(lease->interval);
        continue;
      }
      if (!std::exchange(complained, true)) {
        LogWarn("heartbeat failed", {{"status", status}});
      }
      running = Sleep(std::min(NextBackoff(), lease->interval));
    }
    // A coordinator that registers and refuses beats in turn is not hammered.
    if (running) running = Sleep(NextBackoff() / 4);
  }
}

absl::Status GrpcCoordinatorClient::Drain(absl::Duration timeout) {
  v1::DrainRequest request;
  request.set_name(self_.name);
  request.set_incarnation(self_.incarnation.value());
  v1::DrainResponse response;
  grpc::ClientContext context;
  SetDeadline(context, timeout);
  return FromGrpcStatus(stub_->Drain(&context, request, &response));
}

}  // namespace sluice::agent
