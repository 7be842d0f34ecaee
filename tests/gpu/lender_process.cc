#include "tests/gpu/lender_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

extern char** environ;

namespace sluice::gpu_tests {

using agent::UniqueFd;

absl::StatusOr<std::unique_ptr<LenderProcess>> LenderProcess::Start(
    const std::string& name, int64_t device, int64_t elements) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::InternalError(
        absl::StrCat("making a pair of sockets: ", std::strerror(errno)));
  }
  UniqueFd near(ends[0]);
  const UniqueFd far(ends[1]);
  // dup2 takes close-on-exec away, unless both numbers are the same.
  constexpr int kChildSocket = 3;
  const UniqueFd moved(fcntl(far.get(), F_DUPFD_CLOEXEC, kChildSocket + 1));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, moved.get(), kChildSocket);
  std::vector<std::string> words = {
      name, absl::StrCat("--lender-socket=", kChildSocket),
      absl::StrCat("--device=", device), absl::StrCat("--elements=", elements)};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, "/proc/self/exe", &actions, nullptr,
                                arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    return absl::InternalError(
        absl::StrCat("starting a process: ", std::strerror(error)));
  }
  return std::unique_ptr<LenderProcess>(
      new LenderProcess(pid, std::move(near)));
}

LenderProcess::~LenderProcess() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  Reap();
}

absl::Status LenderProcess::Finish() {
  socket_ = UniqueFd();
  const int status = Reap();
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("the lending process ended with wait status ", status));
}

int LenderProcess::Reap() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return status;
}

}  // namespace sluice::gpu_tests
