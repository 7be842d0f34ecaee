#include "agent/device/descriptor_passing.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

absl::Status Gone(absl::string_view what) {
  return absl::UnavailableError(
      absl::StrCat("descriptor socket: ", what, ": ", std::strerror(errno)));
}

// How long to wait.
struct Patience {
  SteadyTime deadline;
  int interrupt = -1;
};

// Waits until the socket is ready for `events`.
absl::Status WaitReady(int socket, int16_t events, const Patience& patience) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(
        patience.deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      return absl::DeadlineExceededError(
          "descriptor socket: no answer within the deadline");
    }
    // poll() passes over a descriptor of -1.
    pollfd entries[] = {{socket, events, 0}, {patience.interrupt, POLLIN, 0}};
    const auto milliseconds =
        static_cast<int>(std::min<int64_t>(left.count(), 60'000));
    const int ready = poll(entries, std::size(entries), milliseconds);
    if (ready > 0 && entries[1].revents != 0) {
      return absl::CancelledError("descriptor socket: interrupted");
    }
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return Gone("poll");
  }
}

bool Again() { return errno == EAGAIN || errno == EINTR; }

absl::Status SendAll(int socket, absl::string_view body,
                     absl::Span<const int> descriptors,
                     const Patience& patience) {
  while (true) {
    SLUICE_RETURN_IF_ERROR(WaitReady(socket, POLLOUT, patience));
    const int64_t sent =
        SendLength(socket, static_cast<uint32_t>(body.size()), descriptors);
    if (sent == 4) break;
    if (sent >= 0 || !Again()) return Gone("sending");
  }
  while (!body.empty()) {
    SLUICE_RETURN_IF_ERROR(WaitReady(socket, POLLOUT, patience));
    const ssize_t sent =
        send(socket, body.data(), body.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && !Again()) return Gone("sending");
    if (sent > 0) body.remove_prefix(static_cast<size_t>(sent));
  }
  return absl::OkStatus();
}

absl::Status ReceiveAll(int socket, char* bytes, size_t size,
                        std::vector<UniqueFd>& descriptors,
                        const Patience& patience) {
  while (size > 0) {
    SLUICE_RETURN_IF_ERROR(WaitReady(socket, POLLIN, patience));
    const int64_t got = ReceiveBytes(socket, bytes, size, descriptors);
    if (got == 0) {
      return absl::UnavailableError("descriptor socket: closed by the agent");
    }
    if (got < 0) {
      if (Again()) continue;
      return Gone("receiving");
    }
    bytes += got;
    size -= static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UniqueFd> ConnectUnixSocket(absl::string_view path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() > kMaxSocketPathBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("socket path \"", path, "\" has ", path.size(),
                     " bytes: expected 1 to ", kMaxSocketPathBytes));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Gone("socket");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) != 0) {
    return Gone(absl::StrCat("connecting to \"", path, "\""));
  }
  return fd;
}

int64_t SendLength(int socket, uint32_t length,
                   absl::Span<const int> descriptors) {
  const unsigned char bytes[4] = {static_cast<unsigned char>(length),
                                  static_cast<unsigned char>(length >> 8),
                                  static_cast<unsigned char>(length >> 16),
                                  static_cast<unsigned char>(length >> 24)};
  iovec part{const_cast<unsigned char*>(bytes), sizeof(bytes)};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFrameDescriptors * sizeof(int))];
  if (!descriptors.empty()) {
    const size_t payload = descriptors.size() * sizeof(int);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(payload);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(payload);
    std::memcpy(CMSG_DATA(header), descriptors.data(), payload);
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int64_t ReceiveBytes(int socket, void* bytes, size_t size,
                     std::vector<UniqueFd>& descriptors) {
  iovec part{bytes, size};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFrameDescriptors * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t got =
      recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0) return got;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      descriptors.emplace_back(fd);
    }
  }
  return got;
}

absl::StatusOr<Frame> ExchangeFrames(int socket, absl::string_view body,
                                     absl::Span<const int> descriptors,
                                     int64_t max_reply_bytes,
                                     absl::Duration timeout, int interrupt) {
  if (descriptors.size() > kMaxFrameDescriptors) {
    return absl::InvalidArgumentError(
        absl::StrCat(descriptors.size(), " descriptors in one frame: at most ",
                     kMaxFrameDescriptors));
  }
  const Patience patience{
      std::chrono::steady_clock::now() +
          absl::ToChronoMilliseconds(std::min(timeout, absl::Hours(24))),
      interrupt};
  SLUICE_RETURN_IF_ERROR(SendAll(socket, body, descriptors, patience));
  Frame reply;
  unsigned char length[4];
  SLUICE_RETURN_IF_ERROR(ReceiveAll(socket, reinterpret_cast<char*>(length),
                                    sizeof(length), reply.descriptors,
                                    patience));
  const uint32_t size = static_cast<uint32_t>(length[0]) |
                        static_cast<uint32_t>(length[1]) << 8 |
                        static_cast<uint32_t>(length[2]) << 16 |
                        static_cast<uint32_t>(length[3]) << 24;
  if (size > max_reply_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("descriptor socket: a reply of ", size, " bytes: at most ",
                     max_reply_bytes));
  }
  reply.body.resize(size);
  SLUICE_RETURN_IF_ERROR(
      ReceiveAll(socket, reply.body.data(), size, reply.descriptors, patience));
  return reply;
}

}  // namespace sluice::agent
