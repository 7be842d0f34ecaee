#include "tools/local_cluster/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::local_cluster {
namespace {

// State letter and start time of a pid; false if there is no such process.
bool ReadStat(pid_t pid, char& state, uint64_t& start_ticks) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string line;
  if (!std::getline(file, line)) return false;
  // The command (field 2) is in parentheses and may hold anything.
  const size_t end = line.rfind(')');
  if (end == std::string::npos) return false;
  std::istringstream rest(line.substr(end + 1));
  std::string skipped;
  rest >> state;  // field 3
  for (int field = 4; field <= 21; ++field) rest >> skipped;
  rest >> start_ticks;  // field 22
  return static_cast<bool>(rest);
}

// Closes a descriptor at scope end.
struct FdGuard {
  int fd;
  ~FdGuard() {
    if (fd >= 0) ::close(fd);
  }
};

int PidfdOpen(pid_t pid) {
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}

// In the child, between fork and exec: async-signal-safe calls only.
[[noreturn]] void RunChild(char* const* argv, char* const* environment,
                           const char* log_file, const SpawnOptions& options,
                           pid_t parent) {
  ::setsid();
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (options.die_with_parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);
  }
  const int in =
      options.stdin_fd >= 0 ? options.stdin_fd : ::open("/dev/null", O_RDONLY);
  const int log_fd =
      ::open(log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (in < 0 || log_fd < 0) ::_exit(126);
  ::dup2(in, 0);
  ::dup2(options.stdout_fd >= 0 ? options.stdout_fd : log_fd, 1);
  ::dup2(log_fd, 2);
  ::close_range(3, ~0U, 0);
  ::execve(argv[0], argv, environment);
  ::_exit(127);
}

}  // namespace

absl::StatusOr<Process> Spawn(const std::vector<std::string>& argv,
                              const std::string& log_file,
                              const SpawnOptions& options) {
  if (argv.empty() || ::access(argv[0].c_str(), X_OK) != 0) {
    return absl::NotFoundError(
        absl::StrCat("no executable \"", argv.empty() ? "" : argv[0], "\""));
  }
  std::vector<char*> raw;
  raw.reserve(argv.size() + 1);
  for (const std::string& arg : argv) {
    raw.push_back(const_cast<char*>(arg.c_str()));
  }
  raw.push_back(nullptr);
  std::vector<char*> raw_environment;
  for (const std::string& entry : options.environment) {
    raw_environment.push_back(const_cast<char*>(entry.c_str()));
  }
  for (char** entry = environ; *entry != nullptr; ++entry) {
    raw_environment.push_back(*entry);
  }
  raw_environment.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) {
    return absl::InternalError(
        absl::StrCat("cannot start ", argv[0], ": ", std::strerror(errno)));
  }
  if (pid == 0) {
    RunChild(raw.data(), raw_environment.data(), log_file.c_str(), options,
             parent);
  }
  Process process{pid, 0};
  char state = 0;
  ReadStat(pid, state, process.start_ticks);
  return process;
}

bool IsAlive(const Process& process) {
  char state = 0;
  uint64_t start_ticks = 0;
  return process.pid > 0 && ReadStat(process.pid, state, start_ticks) &&
         start_ticks == process.start_ticks && state != 'Z' && state != 'X';
}

absl::Status Signal(const Process& process, int signal) {
  // The pidfd pins the identity; only then is it compared with the record.
  const FdGuard pidfd{PidfdOpen(process.pid)};
  if (pidfd.fd < 0 || !IsAlive(process) ||
      ::syscall(SYS_pidfd_send_signal, pidfd.fd, signal, nullptr, 0) != 0) {
    return absl::NotFoundError(
        absl::StrCat("process ", process.pid, " has ended"));
  }
  return absl::OkStatus();
}

absl::StatusOr<int> WaitForExit(const Process& process,
                                absl::Duration timeout) {
  const FdGuard pidfd{PidfdOpen(process.pid)};
  if (pidfd.fd >= 0 && IsAlive(process)) {
    const absl::Time deadline = absl::Now() + timeout;
    pollfd poll_fd{pidfd.fd, POLLIN, 0};
    for (;;) {
      const int64_t left = std::max<int64_t>(
          0, absl::ToInt64Milliseconds(deadline - absl::Now()));
      const int ready =
          ::poll(&poll_fd, 1,
                 static_cast<int>(std::min<int64_t>(left, 1'000'000'000)));
      if (ready > 0) break;
      if (ready < 0 && errno == EINTR) continue;
      return absl::DeadlineExceededError(
          absl::StrCat("process ", process.pid, " still runs after ",
                       absl::FormatDuration(timeout)));
    }
  }
  int status = 0;
  if (::waitpid(process.pid, &status, 0) != process.pid) return -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

absl::Status Stop(const Process& process, absl::Duration grace) {
  if (Signal(process, SIGTERM).ok()) {
    // A stopped process would only get the signal when it goes on.
    Signal(process, SIGCONT).IgnoreError();
    if (WaitForExit(process, grace).ok()) return absl::OkStatus();
    Signal(process, SIGKILL).IgnoreError();
  }
  return WaitForExit(process, absl::Seconds(10)).status();
}

}  // namespace sluice::local_cluster
