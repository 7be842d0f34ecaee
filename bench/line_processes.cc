#include "bench/line_processes.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "bench/lines.h"
#include "common/status_macros.h"

namespace sluice::bench {
namespace {

// For one step of all processes; what they wait for gives up before.
constexpr absl::Duration kPatience = absl::Minutes(2);
// For their ends, once told.
constexpr absl::Duration kEndPatience = absl::Seconds(10);

}  // namespace

absl::Status LineProcesses::Fork(
    const std::function<int(int from_parent, int to_parent)>& main) {
  // A child that ended is an error of writing to it, not the end of this.
  signal(SIGPIPE, SIG_IGN);
  int down[2], up[2];
  if (pipe2(down, O_CLOEXEC) != 0 || pipe2(up, O_CLOEXEC) != 0) {
    return absl::InternalError("no pipe");
  }
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return absl::InternalError("no process");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    // The ends of the others: a child ends when its parent's end closes.
    for (const Child& other : children_) {
      close(other.to);
      close(other.from);
    }
    close(down[1]);
    close(up[0]);
    _exit(main(down[0], up[1]));
  }
  close(down[0]);
  close(up[1]);
  children_.push_back({pid, down[1], up[0]});
  return absl::OkStatus();
}

LineProcesses::~LineProcesses() {
  for (const Child& child : children_) {
    close(child.to);
    close(child.from);
  }
  const absl::Time deadline = clock_.Now() + kEndPatience;
  for (const Child& child : children_) AwaitEnd(child.pid, clock_, deadline);
}

absl::Status LineProcesses::Tell(absl::string_view line) {
  for (const Child& child : children_) {
    SLUICE_RETURN_IF_ERROR(WriteLine(child.to, line));
  }
  return absl::OkStatus();
}

absl::Status LineProcesses::TellEach(const std::vector<std::string>& lines) {
  for (size_t i = 0; i < children_.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(WriteLine(children_[i].to, lines[i]));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> LineProcesses::ReadEach() {
  const absl::Time deadline = clock_.Now() + kPatience;
  std::vector<std::string> lines;
  for (const Child& child : children_) {
    SLUICE_ASSIGN_OR_RETURN(lines.emplace_back(),
                            ReadLine(child.from, clock_, deadline));
  }
  return lines;
}

absl::Status LineProcesses::Expect(absl::string_view line) {
  const absl::Time deadline = clock_.Now() + kPatience;
  for (const Child& child : children_) {
    SLUICE_ASSIGN_OR_RETURN(const std::string found,
                            ReadLine(child.from, clock_, deadline));
    if (found == line) continue;
    if (found == "bad") {
      return absl::DataLossError("what arrived is not what was sent");
    }
    return absl::InternalError(
        absl::StrCat("a process: expected ", line, ", found ", found));
  }
  return absl::OkStatus();
}

absl::StatusOr<double> LineProcesses::Time(absl::string_view line) {
  SLUICE_RETURN_IF_ERROR(Tell(line));
  SLUICE_RETURN_IF_ERROR(Expect("ready"));
  const absl::Time start = clock_.Now();
  SLUICE_RETURN_IF_ERROR(Tell("go"));
  SLUICE_RETURN_IF_ERROR(Expect("done"));
  const double seconds = absl::ToDoubleSeconds(clock_.Now() - start);
  SLUICE_RETURN_IF_ERROR(Tell("check"));
  SLUICE_RETURN_IF_ERROR(Expect("good"));
  return seconds;
}

}  // namespace sluice::bench
