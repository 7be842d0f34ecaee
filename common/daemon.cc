#include "common/daemon.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status_macros.h"

namespace sluice {
namespace {

std::string ErrnoText(int error) {
  return std::generic_category().message(error);
}

absl::Status FileError(absl::string_view what, absl::string_view path,
                       int error) {
  return absl::FailedPreconditionError(
      absl::StrCat(what, " ", path, ": ", ErrnoText(error)));
}

// Splits HOST:PORT; the host of [::1]:80 is "::1".
absl::Status SplitAddress(absl::string_view address, std::string* host,
                          std::string* port) {
  const size_t colon = address.rfind(':');
  int number = 0;
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(address.substr(colon + 1), &number) || number < 0 ||
      number > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("listen address \"", address,
                     "\": expected HOST:PORT with a port of 0 to 65535"));
  }
  absl::string_view name = address.substr(0, colon);
  if (absl::ConsumePrefix(&name, "[")) absl::ConsumeSuffix(&name, "]");
  *host = std::string(name);
  *port = absl::StrCat(number);
  return absl::OkStatus();
}

bool IsLoopback(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(address);
    return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
  }
  if (address->sa_family == AF_INET6) {
    const auto* in = reinterpret_cast<const sockaddr_in6*>(address);
    return IN6_IS_ADDR_LOOPBACK(&in->sin6_addr);
  }
  return false;
}

absl::StatusOr<addrinfo*> Resolve(absl::string_view address) {
  std::string host;
  std::string port;
  SLUICE_RETURN_IF_ERROR(SplitAddress(address, &host, &port));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int rc = getaddrinfo(host.c_str(), port.c_str(), &hints, &list);
  if (rc == 0) return list;
  return absl::InvalidArgumentError(
      absl::StrCat("listen address \"", address, "\": ", gai_strerror(rc)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ShutdownSignal>> ShutdownSignal::Create() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  if (const int rc = pthread_sigmask(SIG_BLOCK, &set, nullptr); rc != 0) {
    return absl::InternalError(absl::StrCat("sigmask: ", ErrnoText(rc)));
  }
  const int signals = signalfd(-1, &set, SFD_CLOEXEC);
  const int events = eventfd(0, EFD_CLOEXEC);
  if (signals < 0 || events < 0) {
    return absl::InternalError(
        absl::StrCat("signal descriptor: ", ErrnoText(errno)));
  }
  return std::unique_ptr<ShutdownSignal>(new ShutdownSignal(signals, events));
}

ShutdownSignal::~ShutdownSignal() {
  // The signal descriptor stays: a thread may wait for the second signal.
  ::close(event_fd_);
}

int ShutdownSignal::Wait() {
  std::array<pollfd, 2> fds = {pollfd{signal_fd_, POLLIN, 0},
                               pollfd{event_fd_, POLLIN, 0}};
  while (::poll(fds.data(), fds.size(), -1) < 0 && errno == EINTR) {
  }
  signalfd_siginfo info{};
  int signal = 0;
  if ((fds[0].revents & POLLIN) != 0 &&
      ::read(signal_fd_, &info, sizeof(info)) == sizeof(info)) {
    signal = static_cast<int>(info.ssi_signo);
  }
  std::thread([fd = signal_fd_] {
    signalfd_siginfo second{};
    if (::read(fd, &second, sizeof(second)) == sizeof(second)) {
      ::_exit(128 + static_cast<int>(second.ssi_signo));
    }
  }).detach();
  return signal;
}

void ShutdownSignal::Notify() {
  const uint64_t one = 1;
  // Fails only when the counter is full: then Wait returns anyway.
  [[maybe_unused]] const ssize_t n = ::write(event_fd_, &one, sizeof(one));
}

absl::StatusOr<std::unique_ptr<LockFile>> LockFile::Acquire(
    const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("lock file ", path));
  }
  std::unique_ptr<LockFile> lock(new LockFile(fd));
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) {
      return absl::ErrnoToStatus(errno, absl::StrCat("lock file ", path));
    }
    std::array<char, 32> text{};
    const ssize_t n = ::pread(fd, text.data(), text.size() - 1, 0);
    const absl::string_view pid = absl::StripAsciiWhitespace(
        absl::string_view(text.data(), n > 0 ? static_cast<size_t>(n) : 0));
    return absl::AlreadyExistsError(
        absl::StrCat(path, " is held by process ", pid.empty() ? "?" : pid));
  }
  const std::string pid = absl::StrCat(::getpid(), "\n");
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, pid.data(), pid.size(), 0) !=
                                     static_cast<ssize_t>(pid.size())) {
    return absl::ErrnoToStatus(errno, absl::StrCat("lock file ", path));
  }
  return lock;
}

LockFile::~LockFile() { ::close(fd_); }

absl::Status MakeWritableDirectory(const std::string& path) {
  for (size_t at = 0; at != std::string::npos;) {
    at = path.find('/', at + 1);
    const std::string part = path.substr(0, at);
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      // Above it a folder that may not be written is none of our business.
      struct stat info {};
      if (::stat(part.c_str(), &info) != 0) {
        return FileError("cannot make directory", part, errno);
      }
    }
  }
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    return FileError("directory", path, errno);
  }
  if (!S_ISDIR(info.st_mode)) return FileError("directory", path, ENOTDIR);
  if (::access(path.c_str(), R_OK | W_OK | X_OK) != 0) {
    return FileError("cannot write in directory", path, errno);
  }
  return absl::OkStatus();
}

absl::Status WriteFileAtomically(const std::string& path,
                                 absl::string_view content) {
  const std::string part = absl::StrCat(path, ".", ::getpid(), ".part");
  const int fd =
      ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return FileError("cannot write", part, errno);
  const ssize_t n = ::write(fd, content.data(), content.size());
  const int error = n < 0 ? errno : ENOSPC;
  ::close(fd);
  if (n != static_cast<ssize_t>(content.size())) {
    ::unlink(part.c_str());
    return FileError("cannot write", part, error);
  }
  if (::rename(part.c_str(), path.c_str()) != 0) {
    const int rename_error = errno;
    ::unlink(part.c_str());
    return FileError("cannot write", path, rename_error);
  }
  return absl::OkStatus();
}

absl::Status CheckListenAddress(absl::string_view address, bool insecure) {
  if (absl::StartsWith(address, "unix:")) return absl::OkStatus();
  SLUICE_ASSIGN_OR_RETURN(addrinfo* const list, Resolve(address));
  const absl::Cleanup free_list = [list] { freeaddrinfo(list); };
  if (insecure) return absl::OkStatus();
  for (const addrinfo* a = list; a != nullptr; a = a->ai_next) {
    if (!IsLoopback(a->ai_addr)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "listen address \"", address,
          "\" can be reached from other machines and nothing is encrypted; "
          "--insecure allows it on a private network"));
    }
  }
  return absl::OkStatus();
}

absl::Status ExplainBindFailure(absl::string_view address) {
  const std::string what = absl::StrCat("cannot listen on ", address);
  if (absl::StartsWith(address, "unix:")) return absl::UnavailableError(what);
  SLUICE_ASSIGN_OR_RETURN(addrinfo* const list, Resolve(address));
  const absl::Cleanup free_list = [list] { freeaddrinfo(list); };
  const int fd = ::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::ErrnoToStatus(errno, what);
  const absl::Cleanup close_fd = [fd] { ::close(fd); };
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(fd, list->ai_addr, list->ai_addrlen) == 0 &&
      ::listen(fd, 1) == 0) {
    return absl::UnavailableError(what);  // It was taken and is free by now.
  }
  if (errno == EADDRINUSE) {
    return absl::AlreadyExistsError(absl::StrCat(what, ": port in use"));
  }
  return absl::ErrnoToStatus(errno, what);
}

std::string WithPort(absl::string_view address, int port) {
  if (absl::StartsWith(address, "unix:")) return std::string(address);
  return absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
}

ProcessUsage ReadProcessUsage() {
  ProcessUsage usage;
  std::ifstream statm("/proc/self/statm");
  int64_t pages = 0;
  int64_t resident = 0;
  if (statm >> pages >> resident) {
    usage.rss_bytes = resident * ::sysconf(_SC_PAGESIZE);
  }
  rusage spent{};
  ::getrusage(RUSAGE_SELF, &spent);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  usage.cpu_seconds = seconds(spent.ru_utime) + seconds(spent.ru_stime);
  return usage;
}

}  // namespace sluice
