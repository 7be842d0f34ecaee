#include "bench/lines.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::bench {
namespace {

// Between two looks at a child that is about to end.
constexpr useconds_t kPollUs = 1000;
constexpr absl::Duration kLongestPoll = absl::Seconds(10);

// Waits until `fd` can be read or is closed.
absl::Status AwaitInput(int fd, const Clock& clock, absl::Time deadline) {
  while (true) {
    const absl::Duration left = deadline - clock.Now();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError("a child process does not answer");
    }
    pollfd watched{fd, POLLIN, 0};
    const int64_t ms = absl::ToInt64Milliseconds(std::min(left, kLongestPoll));
    if (poll(&watched, 1, static_cast<int>(ms) + 1) > 0) {
      return absl::OkStatus();
    }
  }
}

}  // namespace

absl::StatusOr<std::string> ReadLine(int fd, const Clock& clock,
                                     absl::Time deadline) {
  std::string line;
  while (true) {
    SLUICE_RETURN_IF_ERROR(AwaitInput(fd, clock, deadline));
    char c = 0;
    if (read(fd, &c, 1) != 1) {
      return absl::UnavailableError(absl::StrCat(
          "the other process ended", line.empty() ? "" : ": ", line));
    }
    if (c == '\n') return line;
    line.push_back(c);
  }
}

absl::StatusOr<std::string> ReadToEnd(int fd, const Clock& clock,
                                      absl::Time deadline) {
  std::string text;
  char buffer[4096];
  while (true) {
    SLUICE_RETURN_IF_ERROR(AwaitInput(fd, clock, deadline));
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n <= 0) return text;
    text.append(buffer, static_cast<size_t>(n));
  }
}

absl::Status WriteLine(int fd, absl::string_view line) {
  const std::string text = absl::StrCat(line, "\n");
  if (write(fd, text.data(), text.size()) ==
      static_cast<ssize_t>(text.size())) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      absl::StrCat("the other process ended: ", std::strerror(errno)));
}

int AwaitEnd(pid_t pid, const Clock& clock, absl::Time deadline) {
  int status = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (clock.Now() >= deadline) {
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
      break;
    }
    usleep(kPollUs);
  }
  return status;
}

}  // namespace sluice::bench
