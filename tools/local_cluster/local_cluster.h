#ifndef SLUICE_TOOLS_LOCAL_CLUSTER_LOCAL_CLUSTER_H_
#define SLUICE_TOOLS_LOCAL_CLUSTER_LOCAL_CLUSTER_H_

// A Sluice cluster on one machine: one coordinator and nodes x agents as
// separate processes on loopback, described by DIR/cluster.json, so that
// another process can look at it and stop it later. Everything it writes is
// below the directory, but for a short socket directory where DIR is too long.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tools/local_cluster/process.h"

namespace sluice::local_cluster {

struct Options {
  std::string dir;  // state directory; made if it does not exist
  std::string coordinator_binary;
  std::string agent_binary;
  int nodes = 2;
  int agents_per_node = 4;
  int64_t agent_memory_bytes = int64_t{4} << 30;
  int64_t agent_staging_bytes = int64_t{64} << 20;
  absl::Duration lease = absl::Seconds(10);
  absl::Duration heartbeat_interval = absl::Seconds(1);
  // Daemons are killed with the process that started them (not for `up`).
  bool die_with_parent = false;
  std::vector<std::string> coordinator_flags, agent_flags;  // added last
  // And behind them those of one agent, by its number; may be shorter.
  std::vector<std::vector<std::string>> own_agent_flags;
  // "NAME=value" of one agent, by its number; may be shorter. Also when it is
  // started again, by the object that started it.
  std::vector<std::vector<std::string>> own_agent_environment;
  // Gives each daemon a zeroed SLUICE_FAILPOINT_FILE, DIR/NAME.failpoint; for
  // binaries that link failpoints.
  bool failpoint_files = false;

  // Errors: INVALID_ARGUMENT - names field, bounds and value.
  absl::Status Validate() const;
};

struct AgentProcess {
  std::string name;    // "agent-0"...: ranks in order of first registration
  std::string node;    // "node-0"...
  std::string socket;  // Unix socket of its WorkerService
  Process process;
  std::vector<std::string> argv;
};

class LocalCluster {
 public:
  // Starts all processes and waits until each has printed its port; whether
  // agents are ALIVE is for the coordinator's status to say. On failure
  // everything started is stopped again and the error quotes the log's end.
  // Errors: ALREADY_EXISTS - a cluster runs in `dir`; DEADLINE_EXCEEDED.
  static absl::StatusOr<LocalCluster> Start(const Options& options,
                                            absl::Duration timeout);
  // Reads a running cluster's description. Errors: NOT_FOUND.
  static absl::StatusOr<LocalCluster> Open(const std::string& dir);

  const std::string& dir() const { return dir_; }
  const std::string& coordinator_address() const { return address_; }
  const Process& coordinator() const { return coordinator_; }
  const std::vector<AgentProcess>& agents() const { return agents_; }

  // Starts an ended process anew with the same arguments (the coordinator on
  // the port it had). Errors: FAILED_PRECONDITION - it still runs.
  absl::Status RestartCoordinator(absl::Duration timeout);
  absl::Status RestartAgent(size_t index, absl::Duration timeout);

  // Stops agents, then the coordinator, and removes sockets and cluster.json;
  // logs and durable state stay in `dir`. Processes that ended are skipped.
  absl::Status Stop(absl::Duration grace = absl::Seconds(10));

  // Path of a daemon's failpoint file (Options::failpoint_files).
  std::string FailpointFile(const std::string& name) const;

 private:
  void SetCoordinatorArgv(const Options& options);
  // The i-th agent's names and command line; it is not started.
  AgentProcess NewAgent(const Options& options, int i) const;
  absl::Status StartCoordinator(absl::Duration timeout);
  absl::StatusOr<std::vector<std::string>> Environment(
      const std::string& name) const;
  absl::Status StartAgent(AgentProcess& agent, absl::Duration timeout);
  absl::Status WriteDescription() const;
  LocalCluster() = default;

  std::string dir_;
  std::string socket_dir_;
  bool die_with_parent_ = false;
  bool failpoint_files_ = false;
  std::string address_;
  Process coordinator_;
  std::vector<std::string> coordinator_argv_;
  std::vector<AgentProcess> agents_;
  // By name; not part of the description.
  std::map<std::string, std::vector<std::string>> own_environment_;
};

}  // namespace sluice::local_cluster

#endif  // SLUICE_TOOLS_LOCAL_CLUSTER_LOCAL_CLUSTER_H_
