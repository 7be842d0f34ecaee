#include "tools/quickstart/loopback_rate.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "agent/device/unique_fd.h"
#include "common/status_macros.h"

namespace sluice::quickstart {
namespace {

using agent::UniqueFd;

constexpr size_t kMessageBytes = size_t{4} << 20;

constexpr int kStartMilliseconds = 30'000;

struct Connection {
  UniqueFd sender, receiver;
};

absl::Status SystemError(const char* what) {
  return absl::ResourceExhaustedError(
      absl::StrCat("measuring loopback: ", what, ": ", std::strerror(errno)));
}

absl::StatusOr<Connection> Connect() {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  if (!listener.valid() || ::bind(listener.get(), raw, length) != 0 ||
      ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), raw, &length) != 0) {
    return SystemError("listen");
  }
  Connection connection;
  connection.sender.Reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!connection.sender.valid() ||
      ::connect(connection.sender.get(), raw, length) != 0) {
    return SystemError("connect");
  }
  connection.receiver.Reset(
      ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!connection.receiver.valid()) return SystemError("accept");
  return connection;
}

// In a child, and in it alone: moves the bytes once `start` is readable. Only
// system calls: the parent may have had other threads.
[[noreturn]] void RunChild(int socket, bool send, int64_t bytes, int ready,
                           int start) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  void* buffer = ::mmap(nullptr, kMessageBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  char token = 0;
  if (buffer == MAP_FAILED || ::write(ready, &token, 1) != 1 ||
      ::read(start, &token, 1) != 1) {
    ::_exit(1);
  }
  while (bytes > 0) {
    size_t message =
        static_cast<size_t>(std::min<int64_t>(bytes, kMessageBytes));
    char* at = static_cast<char*>(buffer);
    bytes -= static_cast<int64_t>(message);
    while (message > 0) {
      const ssize_t moved = send ? ::send(socket, at, message, MSG_NOSIGNAL)
                                 : ::recv(socket, at, message, 0);
      if (moved <= 0) ::_exit(1);
      at += moved;
      message -= static_cast<size_t>(moved);
    }
  }
  ::_exit(0);
}

struct Pipe {
  UniqueFd in, out;
};

absl::StatusOr<Pipe> MakePipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return SystemError("pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// Forks a sender and a receiver for each connection into `children`.
absl::Status StartChildren(const std::vector<Connection>& pairs, int64_t bytes,
                           const Pipe& ready, const Pipe& start,
                           std::vector<pid_t>& children) {
  for (size_t i = 0; i < 2 * pairs.size(); ++i) {
    const bool send = i % 2 == 0;
    const Connection& pair = pairs[i / 2];
    const int own = send ? pair.sender.get() : pair.receiver.get();
    const pid_t child = ::fork();
    if (child < 0) return SystemError("fork");
    if (child > 0) {
      children.push_back(child);
      continue;
    }
    // Else nobody would notice that the other end is gone.
    for (const Connection& other : pairs) {
      for (const int fd : {other.sender.get(), other.receiver.get()}) {
        if (fd != own) ::close(fd);
      }
    }
    RunChild(own, send, bytes, ready.out.get(), start.in.get());
  }
  return absl::OkStatus();
}

// Lets all children go at once; returns when each has said it is ready.
absl::Status Release(const Pipe& ready, const Pipe& start, size_t children) {
  std::vector<char> tokens(children);
  for (size_t i = 0; i < children; ++i) {
    // One that ended before says nothing.
    pollfd said{ready.in.get(), POLLIN, 0};
    if (::poll(&said, 1, kStartMilliseconds) != 1 ||
        ::read(ready.in.get(), tokens.data(), 1) != 1) {
      return absl::ResourceExhaustedError(
          "measuring loopback: a process did not start");
    }
  }
  if (::write(start.out.get(), tokens.data(), children) < 0) {
    return SystemError("write");
  }
  return absl::OkStatus();
}

absl::StatusOr<double> OneRound(int connections, int64_t bytes) {
  SLUICE_ASSIGN_OR_RETURN(const Pipe ready, MakePipe());
  SLUICE_ASSIGN_OR_RETURN(const Pipe start, MakePipe());
  std::vector<Connection> pairs;
  for (int i = 0; i < connections; ++i) {
    SLUICE_ASSIGN_OR_RETURN(Connection pair, Connect());
    pairs.push_back(std::move(pair));
  }
  std::vector<pid_t> children;
  absl::Status status = StartChildren(pairs, bytes, ready, start, children);
  pairs.clear();
  if (status.ok()) status = Release(ready, start, children.size());
  const absl::Time began = absl::Now();
  for (const pid_t child : children) {
    if (!status.ok()) ::kill(child, SIGKILL);
    int exit_status = 0;
    const bool ended = ::waitpid(child, &exit_status, 0) == child;
    if (status.ok() && (!ended || exit_status != 0)) {
      status = absl::InternalError("measuring loopback: a process failed");
    }
  }
  if (!status.ok()) return status;
  return static_cast<double>(bytes) * connections /
         absl::ToDoubleSeconds(absl::Now() - began) / 1e9;
}

}  // namespace

absl::StatusOr<double> MeasureLoopback(int connections, int64_t bytes,
                                       int rounds) {
  std::vector<double> rates;
  for (int i = 0; i < rounds; ++i) {
    SLUICE_ASSIGN_OR_RETURN(const double rate, OneRound(connections, bytes));
    rates.push_back(rate);
  }
  std::sort(rates.begin(), rates.end());
  return rates[rates.size() / 2];
}

}  // namespace sluice::quickstart
