#ifndef SLUICE_TOOLS_LOCAL_CLUSTER_PROCESS_H_
#define SLUICE_TOOLS_LOCAL_CLUSTER_PROCESS_H_

// A daemon process of a local cluster, named by pid and start time: a pid that
// the system gave to somebody else since is never signalled.

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace sluice::local_cluster {

struct Process {
  pid_t pid = 0;
  // Start time in clock ticks since boot (field 22 of /proc/PID/stat).
  uint64_t start_ticks = 0;

  friend bool operator==(const Process&, const Process&) = default;
};

struct SpawnOptions {
  // "NAME=value", added to our environment, before it.
  std::vector<std::string> environment = {};
  // Become its stdin and stdout; -1: /dev/null and the log.
  int stdin_fd = -1;
  int stdout_fd = -1;
  // The kernel kills it when the thread that started it ends.
  bool die_with_parent = false;
};

// Starts `argv` in a session of its own, with no signal blocked, with stderr
// (and stdout) appended to `log_file`, and no other descriptor open.
// Errors: NOT_FOUND - the binary; INTERNAL - the system refused.
absl::StatusOr<Process> Spawn(const std::vector<std::string>& argv,
                              const std::string& log_file,
                              const SpawnOptions& options = {});

// Whether this very process still runs (a zombie does not).
bool IsAlive(const Process& process);

// Sends a signal to this very process. Errors: NOT_FOUND - it has ended.
absl::Status Signal(const Process& process, int signal);

// Waits for the end of the process, reaping it if it is a child of ours.
// Returns its exit code, 128 + signal if a signal ended it, or -1 if it was no
// child. Errors: DEADLINE_EXCEEDED - still running.
absl::StatusOr<int> WaitForExit(const Process& process, absl::Duration timeout);

// SIGTERM, then SIGKILL after `grace`; returns when it has ended.
absl::Status Stop(const Process& process, absl::Duration grace);

}  // namespace sluice::local_cluster

#endif  // SLUICE_TOOLS_LOCAL_CLUSTER_PROCESS_H_
