#include "agent/descriptor_loop.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/logging.h"

namespace sluice::agent {
namespace {

// A worker passes one descriptor at a time; more than a few are an attack on
// the descriptor table.
constexpr size_t kMaxGivenDescriptors = 4;

bool SameUser(int socket) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         peer.uid == geteuid();
}

bool Again() { return errno == EAGAIN || errno == EINTR; }

}  // namespace

struct DescriptorLoop::Connection {
  UniqueFd socket;
  // The request as far as it came: 4 bytes of length, then the body.
  std::string in;
  std::vector<UniqueFd> given;
  // The reply, if one is on its way.
  bool replying = false;
  bool length_sent = false;
  size_t sent = 0;
  Frame out;
  uint32_t watched = 0;
};

DescriptorLoop::DescriptorLoop(Limits limits, int listener, int stop,
                               Handler handler)
    : limits_(limits),
      listener_(listener),
      stop_(stop),
      handler_(std::move(handler)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {}

DescriptorLoop::~DescriptorLoop() = default;

absl::StatusOr<std::unique_ptr<DescriptorLoop>> DescriptorLoop::Create(
    Limits limits, int listener, int stop, Handler handler) {
  std::unique_ptr<DescriptorLoop> out(
      new DescriptorLoop(limits, listener, stop, std::move(handler)));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = stop;
  if (!out->epoll_.valid() ||
      epoll_ctl(out->epoll_.get(), EPOLL_CTL_ADD, stop, &event) != 0) {
    return absl::UnavailableError(
        absl::StrCat("epoll: ", std::strerror(errno)));
  }
  out->Listen(true);
  return out;
}

void DescriptorLoop::Listen(bool on) {
  if (on == listening_) return;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = listener_;
  epoll_ctl(epoll_.get(), on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listener_,
            &event);
  listening_ = on;
}

void DescriptorLoop::Run() {
  pthread_setname_np(pthread_self(), "descriptors");
  while (true) {
    epoll_event events[64];
    const int count = epoll_wait(epoll_.get(), events, 64, -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (fd == stop_) return;
      if (fd == listener_) {
        Accept();
        continue;
      }
      const auto it = connections_.find(fd);
      if (it == connections_.end()) continue;
      if (Serve(*it->second)) {
        Watch(*it->second);
      } else {
        connections_.erase(it);
        Listen(true);
      }
    }
  }
}

void DescriptorLoop::Accept() {
  while (static_cast<int>(connections_.size()) < limits_.max_connections) {
    UniqueFd socket(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket.valid()) {
      // Without descriptors left the listener would be ready for ever: it waits
      // for a connection to close.
      if (errno == EMFILE || errno == ENFILE) {
        LogWarn("descriptor socket out of descriptors",
                {{"connections", connections_.size()}});
        Listen(connections_.empty());
      }
      return;
    }
    if (!SameUser(socket.get())) {
      LogWarn("descriptor socket: another user was refused");
      continue;
    }
    auto connection = std::make_unique<Connection>();
    const int fd = socket.get();
    connection->socket = std::move(socket);
    Connection& added = *(connections_[fd] = std::move(connection));
    Watch(added);
  }
  Listen(false);
}

void DescriptorLoop::Watch(Connection& connection) {
  const uint32_t wanted = connection.replying ? EPOLLOUT : EPOLLIN;
  if (wanted == connection.watched) return;
  epoll_event event{};
  event.events = wanted;
  event.data.fd = connection.socket.get();
  epoll_ctl(epoll_.get(),
            connection.watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD,
            connection.socket.get(), &event);
  connection.watched = wanted;
}

bool DescriptorLoop::Serve(Connection& connection) {
  if (!connection.replying && !Read(connection)) return false;
  return !connection.replying || Write(connection);
}

bool DescriptorLoop::Read(Connection& connection) {
  while (true) {
    size_t wanted = 4;
    std::string& in = connection.in;
    if (in.size() >= 4) {
      const auto* length = reinterpret_cast<const unsigned char*>(in.data());
      const uint32_t body = static_cast<uint32_t>(length[0]) |
                            static_cast<uint32_t>(length[1]) << 8 |
                            static_cast<uint32_t>(length[2]) << 16 |
                            static_cast<uint32_t>(length[3]) << 24;
      if (body > limits_.max_request_bytes) return false;
      wanted += body;
      if (in.size() == wanted) {
        connection.out = handler_(absl::string_view(in).substr(4),
                                  std::move(connection.given));
        connection.given.clear();
        in.clear();
        connection.replying = true;
        connection.length_sent = false;
        connection.sent = 0;
        return true;
      }
    }
    const size_t have = in.size();
    in.resize(wanted);
    const int64_t got = ReceiveBytes(connection.socket.get(), in.data() + have,
                                     wanted - have, connection.given);
    in.resize(have + static_cast<size_t>(got > 0 ? got : 0));
    if (got == 0 || connection.given.size() > kMaxGivenDescriptors) {
      return false;
    }
    if (got < 0) return Again();
  }
}

bool DescriptorLoop::Write(Connection& connection) {
  Frame& out = connection.out;
  const int socket = connection.socket.get();
  if (!connection.length_sent) {
    std::vector<int> descriptors;
    for (const UniqueFd& fd : out.descriptors) descriptors.push_back(fd.get());
    const int64_t sent =
        SendLength(socket, static_cast<uint32_t>(out.body.size()), descriptors);
    if (sent < 0) return Again();
    if (sent != 4) return false;
    connection.length_sent = true;
    out.descriptors.clear();
  }
  while (connection.sent < out.body.size()) {
    const ssize_t sent =
        send(socket, out.body.data() + connection.sent,
             out.body.size() - connection.sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) return Again();
    connection.sent += static_cast<size_t>(sent);
  }
  connection.replying = false;
  out = Frame();
  return true;
}

}  // namespace sluice::agent
