#include "agent/device/descriptor_passing.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/device/memory_file.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;

struct SocketPair {
  SocketPair() {
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    near.Reset(fds[0]);
    far.Reset(fds[1]);
  }
  UniqueFd near, far;
};

// The child's side: reads a frame of `body_bytes`, writes "child" into the
// memory it got, answers "seen".
[[noreturn]] void RunChild(int socket, size_t body_bytes) {
  std::vector<UniqueFd> fds;
  std::vector<char> bytes(4 + body_bytes);
  size_t have = 0;
  while (have < bytes.size()) {
    const int64_t got =
        ReceiveBytes(socket, bytes.data() + have, bytes.size() - have, fds);
    if (got == 0) _exit(1);
    if (got > 0) have += static_cast<size_t>(got);
  }
  if (fds.size() != 1) _exit(2);
  auto memory = MapMemoryFile(std::move(fds[0]), 4'096, Access::kReadWrite);
  if (!memory.ok()) _exit(3);
  if (std::memcmp((*memory)->data(), "parent", 6) != 0) _exit(4);
  std::memcpy((*memory)->data() + 100, "child", 5);
  if (SendLength(socket, 4, {}) != 4) _exit(5);
  if (write(socket, "seen", 4) != 4) _exit(6);
  _exit(0);
}

TEST_CASE("a descriptor passed to another process maps the same memory",
          "[device]") {
  SocketPair pair;
  REQUIRE_OK_AND_ASSIGN(UniqueFd fd, CreateMemoryFile(4'096, "shared"));
  REQUIRE_OK_AND_ASSIGN(UniqueFd ours, Duplicate(fd.get()));
  REQUIRE_OK_AND_ASSIGN(const auto memory, MapMemoryFile(std::move(ours), 4'096,
                                                         Access::kReadWrite));
  std::memcpy(memory->data(), "parent", 6);
  const std::string body(70'000, 'x');  // more than a socket buffer's step

  const pid_t child = fork();
  if (child == 0) RunChild(pair.far.get(), body.size());
  const int descriptor = fd.get();
  const auto reply = ExchangeFrames(pair.near.get(), body, {&descriptor, 1},
                                    /*max_reply_bytes=*/100, absl::Seconds(20));
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(status == 0);
  REQUIRE_OK(reply);
  CHECK(reply->body == "seen");
  CHECK(reply->descriptors.empty());
  CHECK(std::memcmp(memory->data() + 100, "child", 5) == 0);
}

TEST_CASE("a peer that does not answer ends the exchange at its deadline",
          "[device]") {
  SocketPair pair;
  CHECK_THAT(
      ExchangeFrames(pair.near.get(), "hello", {}, 100, absl::Milliseconds(20)),
      StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST_CASE("a peer that is gone is unavailable", "[device]") {
  SocketPair pair;
  pair.far.Reset();
  CHECK_THAT(
      ExchangeFrames(pair.near.get(), "hello", {}, 100, absl::Seconds(20)),
      StatusIs(absl::StatusCode::kUnavailable));
  CHECK_THAT(ConnectUnixSocket("/tmp/sluice-no-such-socket"),
             StatusIs(absl::StatusCode::kUnavailable));
}

TEST_CASE("a reply above the limit is refused unread", "[device]") {
  SocketPair pair;
  REQUIRE(SendLength(pair.far.get(), 101, {}) == 4);
  CHECK_THAT(
      ExchangeFrames(pair.near.get(), "hello", {}, 100, absl::Seconds(20)),
      StatusIs(absl::StatusCode::kResourceExhausted, "101"));
}

TEST_CASE("a socket path that does not fit is refused, with its length",
          "[device]") {
  CHECK_THAT(ConnectUnixSocket(std::string(108, 'a')),
             StatusIs(absl::StatusCode::kInvalidArgument, "108"));
}

}  // namespace
}  // namespace sluice::agent
