#include "common/daemon.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;

// Runs `body` in a child; returns its wait status.
template <typename Body>
pid_t Fork(Body body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  return pid;
}

int WaitFor(pid_t pid) {
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return status;
}

TEST_CASE("the first signal is returned, the second ends the process",
          "[daemon]") {
  int pipe_fds[2];
  REQUIRE(::pipe(pipe_fds) == 0);
  const pid_t child = Fork([&] {
    auto signals = ShutdownSignal::Create();
    char ready = 'r';
    if (!signals.ok() || ::write(pipe_fds[1], &ready, 1) != 1) return 1;
    ready = (*signals)->Wait() == SIGTERM ? 't' : 'x';
    if (::write(pipe_fds[1], &ready, 1) != 1) return 1;
    for (;;) ::pause();  // hangs while it drains
    return 1;
  });
  char byte = 0;
  REQUIRE(::read(pipe_fds[0], &byte, 1) == 1);
  ::kill(child, SIGTERM);
  REQUIRE(::read(pipe_fds[0], &byte, 1) == 1);
  CHECK(byte == 't');
  ::kill(child, SIGTERM);
  const int status = WaitFor(child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 128 + SIGTERM);
  ::close(pipe_fds[0]);
  ::close(pipe_fds[1]);
}

TEST_CASE("Notify ends the wait without a signal", "[daemon]") {
  const pid_t child = Fork([] {
    auto signals = ShutdownSignal::Create();
    if (!signals.ok()) return 1;
    (*signals)->Notify();
    return (*signals)->Wait() == 0 ? 0 : 2;
  });
  CHECK(WaitFor(child) == 0);
}

TEST_CASE("a lock is held by one process at a time, which is named",
          "[daemon]") {
  const testing::TestDir dir;
  const std::string path = dir.File("lock");
  REQUIRE_OK_AND_ASSIGN(std::unique_ptr<LockFile> lock,
                        LockFile::Acquire(path));
  // A lock is of the open file: this process is refused like any other.
  CHECK_THAT(LockFile::Acquire(path),
             StatusIs(Code::kAlreadyExists, absl::StrCat(::getpid())));
  lock.reset();
  CHECK_OK(LockFile::Acquire(path));
}

TEST_CASE("a killed holder's lock is free", "[daemon]") {
  const testing::TestDir dir;
  const std::string path = dir.File("lock");
  const pid_t child = Fork([&] {
    const auto lock = LockFile::Acquire(path);
    ::raise(SIGKILL);
    return lock.ok() ? 0 : 1;
  });
  CHECK(WIFSIGNALED(WaitFor(child)));
  CHECK_OK(LockFile::Acquire(path));
  CHECK_THAT(LockFile::Acquire(dir.File("no/lock")),
             StatusIs(Code::kNotFound, "no/lock"));
}

TEST_CASE("directories are made, and refused where they cannot be",
          "[daemon]") {
  const testing::TestDir dir;
  CHECK_OK(MakeWritableDirectory(dir.File("a/b/c")));
  CHECK_OK(MakeWritableDirectory(dir.File("a/b/c")));
  const std::string file = dir.Write("file", "x");
  CHECK_THAT(MakeWritableDirectory(file),
             StatusIs(Code::kFailedPrecondition, "file"));
  CHECK_THAT(MakeWritableDirectory(file + "/below"),
             StatusIs(Code::kFailedPrecondition, "file/below"));
  CHECK_THAT(MakeWritableDirectory("/proc/sluice"),
             StatusIs(Code::kFailedPrecondition, "/proc/sluice"));
}

TEST_CASE("a file is replaced as a whole", "[daemon]") {
  const testing::TestDir dir;
  REQUIRE_OK(WriteFileAtomically(dir.File("port"), "127.0.0.1:1\n"));
  REQUIRE_OK(WriteFileAtomically(dir.File("port"), "127.0.0.1:22\n"));
  CHECK(testing::ReadFile(dir.File("port")) == "127.0.0.1:22\n");
  CHECK_THAT(WriteFileAtomically(dir.File("no/port"), ""),
             StatusIs(Code::kFailedPrecondition, "no/port"));
}

TEST_CASE("only loopback may be listened on without a word", "[daemon]") {
  for (const char* address :
       {"127.0.0.1:0", "127.9.9.9:80", "[::1]:7070", "unix:/tmp/x"}) {
    CAPTURE(address);
    CHECK_OK(CheckListenAddress(address, /*insecure=*/false));
  }
  for (const char* address : {"0.0.0.0:0", "[::]:7070", "10.1.2.3:1"}) {
    CAPTURE(address);
    CHECK_THAT(CheckListenAddress(address, /*insecure=*/false),
               StatusIs(Code::kFailedPrecondition, address));
    CHECK_OK(CheckListenAddress(address, /*insecure=*/true));
  }
  for (const char* address : {"", "7070", ":7070", "127.0.0.1",
                              "127.0.0.1:http", "127.0.0.1:65536"}) {
    CAPTURE(address);
    CHECK_THAT(CheckListenAddress(address, /*insecure=*/true),
               StatusIs(Code::kInvalidArgument));
  }
}

TEST_CASE("a port in use is said to be", "[daemon]") {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  REQUIRE(::bind(fd, generic, size) == 0);
  REQUIRE(::listen(fd, 1) == 0);
  REQUIRE(::getsockname(fd, generic, &size) == 0);
  const std::string used = WithPort("127.0.0.1:0", ntohs(address.sin_port));
  CHECK_THAT(ExplainBindFailure(used), StatusIs(Code::kAlreadyExists, used));
  ::close(fd);
}

TEST_CASE("the port that was got replaces the one asked for", "[daemon]") {
  CHECK(WithPort("127.0.0.1:0", 7070) == "127.0.0.1:7070");
  CHECK(WithPort("[::1]:0", 7070) == "[::1]:7070");
}

TEST_CASE("a process knows its own use of the machine", "[daemon]") {
  const ProcessUsage before = ReadProcessUsage();
  CHECK(before.rss_bytes > 1 << 20);
  volatile uint64_t sum = 0;
  ProcessUsage after = before;
  while (after.cpu_seconds <= before.cpu_seconds) {
    for (int i = 0; i < 1000; ++i) sum = sum + 1;
    after = ReadProcessUsage();
  }
  CHECK(after.cpu_seconds > before.cpu_seconds);
}

}  // namespace
}  // namespace sluice
