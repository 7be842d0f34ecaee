#include "agent/transport/ucx_engine.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <ucs/config/global_opts.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/transport/ucx_status.h"
#include "common/check.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// UCX work is done in bursts of this many steps, between which commands are
// looked at.
constexpr int kProgressBurst = 64;
// Connections that are being made when the transport stops may end their
// handshake for this long: UCX neither likes them closed nor forgotten before.
constexpr std::chrono::milliseconds kHandshakePatience(500);
// The listener is destroyed when no connection has come for this long. UCX 1.13
// reads a new connection's first bytes on a thread of its own, and there
// reaches for the listener without looking whether it still is there
// (openucx/ucx issue 11087, open as of 1.19): peers that connect all at once,
// to an agent that just stops, would end its process.
constexpr std::chrono::milliseconds kListenerQuiet(20);

// Sets an option of UCX, unless the operator set it in the environment.
absl::Status SetOption(ucp_config_t* config, const char* name,
                       const std::string& value) {
  const std::string variable = absl::StrCat("UCX_", name);
  if (std::getenv(variable.c_str()) != nullptr) return absl::OkStatus();
  return UcxStatus(ucp_config_modify(config, name, value.c_str()),
                   absl::StrCat(variable, "=", value));
}

absl::Status Configure(ucp_config_t* config,
                       const UcxTransport::Options& options) {
  SLUICE_RETURN_IF_ERROR(SetOption(config, "TLS", options.transports));
  if (!options.net_devices.empty()) {
    SLUICE_RETURN_IF_ERROR(
        SetOption(config, "NET_DEVICES", options.net_devices));
  }
  // Every message that does not fit one packet goes by rendezvous: a receive
  // that is half filled by an eager message can neither be withdrawn nor ended
  // by closing its endpoint. Not for the operator to change: kLargeBytes.
  SLUICE_RETURN_IF_ERROR(
      UcxStatus(ucp_config_modify(config, "RNDV_THRESH",
                                  absl::StrCat(kLargeBytes).c_str()),
                "UCX_RNDV_THRESH"));
  // Active messages are copied into UCX's own segments, never sent from the
  // caller's memory by parts: when the connection breaks between two parts, UCX
  // 1.13 ends such a message twice, and the process with it.
  return SetOption(config, "ZCOPY_THRESH", "inf");
}

absl::Status WatchForInput(int epoll_fd, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
    return absl::InternalError(
        absl::StrCat("epoll_ctl: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status UcxTransport::Engine::Open(const Options& options) {
  // Failed peers are reported by status; UCX's own lines would double them.
  if (std::getenv("UCX_LOG_LEVEL") == nullptr) {
    ucs_global_opts_set_value("LOG_LEVEL", "fatal");
  }
  std::random_device random;
  client_id_ = uint64_t{random()} << 32 | random();
  std::string host = options.listen_host;
  if (host.empty()) {
    SLUICE_ASSIGN_OR_RETURN(host, AddressOfDevices(options.net_devices));
  }
  SLUICE_RETURN_IF_ERROR(OpenWorker(options));
  SLUICE_RETURN_IF_ERROR(OpenListener(host));
  return OpenEvents();
}

absl::Status UcxTransport::Engine::OpenWorker(const Options& options) {
  ucp_config_t* config = nullptr;
  SLUICE_RETURN_IF_ERROR(
      UcxStatus(ucp_config_read(nullptr, nullptr, &config), "ucp_config_read"));
  absl::Status opened = Configure(config, options);
  if (opened.ok()) {
    ucp_params_t params{};
    params.field_mask = UCP_PARAM_FIELD_FEATURES;
    params.features = UCP_FEATURE_TAG | UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
    opened = UcxStatus(ucp_init(&params, config, &context_), "ucp_init");
  }
  ucp_config_release(config);
  SLUICE_RETURN_IF_ERROR(opened);
  ucp_worker_params_t params{};
  params.field_mask =
      UCP_WORKER_PARAM_FIELD_THREAD_MODE | UCP_WORKER_PARAM_FIELD_CLIENT_ID;
  // Only this thread calls UCX; its connection manager runs on a thread of its
  // own, against which progress is locked only in this mode.
  params.thread_mode = UCS_THREAD_MODE_MULTI;
  params.client_id = client_id_;
  SLUICE_RETURN_IF_ERROR(UcxStatus(
      ucp_worker_create(context_, &params, &worker_), "ucp_worker_create"));
  ucp_am_handler_param_t handler{};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID |
                       UCP_AM_HANDLER_PARAM_FIELD_CB |
                       UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = kGreeting;
  handler.cb = OnGreeting;
  handler.arg = this;
  return UcxStatus(ucp_worker_set_am_recv_handler(worker_, &handler),
                   "ucp_worker_set_am_recv_handler");
}

absl::Status UcxTransport::Engine::OpenListener(const std::string& host) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("listen_host: expected an IPv4 address, found ", host));
  }
  ucp_listener_params_t params{};
  params.field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR |
                      UCP_LISTENER_PARAM_FIELD_CONN_HANDLER;
  params.sockaddr.addr = reinterpret_cast<const sockaddr*>(&address);
  params.sockaddr.addrlen = sizeof(address);
  params.conn_handler.cb = OnConnection;
  params.conn_handler.arg = this;
  SLUICE_RETURN_IF_ERROR(
      UcxStatus(ucp_listener_create(worker_, &params, &listener_),
                absl::StrCat("listening on ", host)));
  ucp_listener_attr_t attributes{};
  attributes.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR;
  SLUICE_RETURN_IF_ERROR(UcxStatus(ucp_listener_query(listener_, &attributes),
                                   "ucp_listener_query"));
  std::memcpy(&address, &attributes.sockaddr, sizeof(address));
  address_ = UcxAddress{client_id_, host, ntohs(address.sin_port)}.Encode();
  return absl::OkStatus();
}

absl::Status UcxTransport::Engine::OpenEvents() {
  int ucx_fd = -1;
  SLUICE_RETURN_IF_ERROR(
      UcxStatus(ucp_worker_get_efd(worker_, &ucx_fd), "ucp_worker_get_efd"));
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (epoll_fd_ < 0 || wake_fd_ < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("epoll, eventfd: ", std::strerror(errno)));
  }
  SLUICE_RETURN_IF_ERROR(WatchForInput(epoll_fd_, ucx_fd));
  return WatchForInput(epoll_fd_, wake_fd_);
}

UcxTransport::Engine::~Engine() {
  if (listener_ != nullptr) ucp_listener_destroy(listener_);
  if (worker_ != nullptr) ucp_worker_destroy(worker_);
  if (context_ != nullptr) ucp_cleanup(context_);
  if (wake_fd_ >= 0) close(wake_fd_);
  if (epoll_fd_ >= 0) close(epoll_fd_);
}

void UcxTransport::Engine::StartThread() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "sluice-ucx");
    Run();
  });
}

void UcxTransport::Engine::Stop() {
  if (!thread_.joinable()) return;
  Post([this] {
    stopping_ = true;
    last_request_ = std::chrono::steady_clock::now();
    stop_deadline_ = last_request_ + kHandshakePatience;
    std::vector<EndpointPtr> open;
    for (const auto& [pointer, endpoint] : open_) open.push_back(endpoint);
    const absl::Status reason = absl::CancelledError("the transport stops");
    for (const auto& [key, peer] : peers_) {
      WithdrawReceives(peer.address.client_id, reason);
    }
    for (const EndpointPtr& endpoint : open) CloseEndpoint(endpoint, reason);
  });
  thread_.join();
}

void UcxTransport::Engine::Post(Command command) {
  bool wake = false;
  {
    MutexLock lock(mutex_);
    commands_.push_back(std::move(command));
    std::swap(wake, wake_needed_);
  }
  if (wake) eventfd_write(wake_fd_, 1);
}

bool UcxTransport::Engine::RunCommands() {
  std::vector<Command> commands;
  {
    MutexLock lock(mutex_);
    commands.swap(commands_);
  }
  for (Command& command : commands) std::move(command)();
  return !commands.empty();
}

bool UcxTransport::Engine::CommandsQueued() {
  MutexLock lock(mutex_);
  wake_needed_ = commands_.empty();
  return !commands_.empty();
}

void UcxTransport::Engine::Run() {
  while (true) {
    // Events before commands: a connection that the peer has closed is not
    // given new messages because nobody looked.
    bool worked = false;
    for (int i = 0; i < kProgressBurst; ++i) {
      if (ucp_worker_progress(worker_) == 0) break;
      worked = true;
    }
    // What is closed is taken apart by further progress.
    worked |= CloseFailedEndpoints();
    CollectClosedEndpoints();
    worked |= RunCommands();
    if (stopping_ && FinishStopping()) break;
    if (worked) continue;
    // From here on a command that comes writes to the event descriptor.
    if (CommandsQueued()) continue;
    const ucs_status_t armed = ucp_worker_arm(worker_);
    if (armed == UCS_ERR_BUSY) continue;
    SLUICE_CHECK(armed == UCS_OK) << ucs_status_string(armed);
    Sleep();
  }
  // Commands that came too late: their callbacks still come.
  while (RunCommands()) {
  }
}

bool UcxTransport::Engine::FinishStopping() {
  const auto now = std::chrono::steady_clock::now();
  if (!open_.empty() && now >= stop_deadline_) {
    std::vector<EndpointPtr> open;
    for (const auto& [pointer, endpoint] : open_) open.push_back(endpoint);
    for (const EndpointPtr& endpoint : open) ForceClosed(endpoint);
    return false;  // further progress takes them apart
  }
  const bool quiet =
      now >= std::min(stop_deadline_, last_request_ + kListenerQuiet);
  return quiet && AllClosed();
}

bool UcxTransport::Engine::AllClosed() const {
  return open_.empty() && operations_.empty() && closing_.empty();
}

void UcxTransport::Engine::Sleep() {
  int timeout_ms = -1;
  if (stopping_) {
    const auto next =
        AllClosed() ? last_request_ + kListenerQuiet : stop_deadline_;
    const auto left = next - std::chrono::steady_clock::now();
    timeout_ms = static_cast<int>(std::max<int64_t>(
        0, std::chrono::ceil<std::chrono::milliseconds>(left).count()));
  }
  epoll_event events[2];
  const int n = epoll_wait(epoll_fd_, events, 2, timeout_ms);
  SLUICE_CHECK(n >= 0 || errno == EINTR) << std::strerror(errno);
  for (int i = 0; i < n; ++i) {
    if (events[i].data.fd != wake_fd_) continue;
    eventfd_t count = 0;
    eventfd_read(wake_fd_, &count);
  }
}

}  // namespace sluice::agent
