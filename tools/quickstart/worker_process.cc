#include "tools/quickstart/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"

namespace sluice::quickstart {
namespace {

constexpr absl::Duration kGrace = absl::Seconds(5);

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerProcess>> WorkerProcess::Start(
    const std::string& binary, const std::string& agent_socket,
    const std::string& name, const std::string& device,
    const std::string& log_file) {
  // Sockets, not pipes: writing to one whose reader is gone can be told not to
  // raise a signal.
  int in[2], out[2];
  auto worker = std::unique_ptr<WorkerProcess>(new WorkerProcess);
  worker->name_ = name;
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no socket pair: ", std::strerror(errno)));
  }
  worker->to_.Reset(in[0]);
  const agent::UniqueFd child_in(in[1]);
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out) != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no socket pair: ", std::strerror(errno)));
  }
  worker->from_.Reset(out[0]);
  const agent::UniqueFd child_out(out[1]);
  local_cluster::SpawnOptions options;
  options.stdin_fd = child_in.get();
  options.stdout_fd = child_out.get();
  options.die_with_parent = true;
  SLUICE_ASSIGN_OR_RETURN(
      worker->process_,
      local_cluster::Spawn({binary, "--agent-socket", agent_socket, "--name",
                            name, "--device", device},
                           log_file, options));
  return worker;
}

WorkerProcess::~WorkerProcess() {
  to_.Reset();
  if (process_.pid == 0) return;
  if (local_cluster::WaitForExit(process_, kGrace).ok()) return;
  local_cluster::Signal(process_, SIGKILL).IgnoreError();
  local_cluster::WaitForExit(process_, kGrace).status().IgnoreError();
}

absl::Status WorkerProcess::Send(const nlohmann::json& command) {
  const std::string line = command.dump() + "\n";
  size_t sent = 0;
  while (sent < line.size()) {
    const ssize_t n =
        ::send(to_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return absl::UnavailableError(
          absl::StrCat("worker ", name_, " has ended"));
    }
    sent += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

absl::StatusOr<nlohmann::json> WorkerProcess::Answer(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    const size_t end = received_.find('\n');
    if (end != std::string::npos) {
      nlohmann::json answer =
          nlohmann::json::parse(received_.substr(0, end), nullptr, false);
      received_.erase(0, end + 1);
      if (answer.is_object() && answer.value("ok", false)) return answer;
      return absl::InternalError(
          absl::StrCat("worker ", name_, ": ",
                       answer.is_object() ? answer.value("error", "failed")
                                          : "an answer that is no JSON"));
    }
    const int64_t left =
        std::max<int64_t>(0, absl::ToInt64Milliseconds(deadline - absl::Now()));
    pollfd poll_fd{from_.get(), POLLIN, 0};
    const int ready = ::poll(&poll_fd, 1, static_cast<int>(left));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) {
      return absl::DeadlineExceededError(
          absl::StrCat("worker ", name_, " did not answer within ",
                       absl::FormatDuration(timeout)));
    }
    char bytes[4096];
    const ssize_t n = ::recv(from_.get(), bytes, sizeof bytes, 0);
    if (n <= 0) {
      return absl::UnavailableError(
          absl::StrCat("worker ", name_, " has ended"));
    }
    received_.append(bytes, static_cast<size_t>(n));
  }
}

}  // namespace sluice::quickstart
