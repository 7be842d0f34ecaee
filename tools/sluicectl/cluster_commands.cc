// up, down: clusters of real processes on this machine.

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status_macros.h"
#include "tools/local_cluster/binaries.h"
#include "tools/local_cluster/local_cluster.h"
#include "tools/sluicectl/context.h"

namespace sluice::ctl {
namespace {

using local_cluster::LocalCluster;

struct UpOptions {
  local_cluster::Options cluster;
  double timeout_seconds = 30;
};

struct DownOptions {
  double grace_seconds = 10;
};

// Keeps SIGINT and SIGTERM waiting, so that no half-started cluster is left.
class SignalsHeld {
 public:
  SignalsHeld() {
    sigemptyset(&held_);
    sigaddset(&held_, SIGINT);
    sigaddset(&held_, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &held_, &before_);
  }
  ~SignalsHeld() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  bool came() const {
    sigset_t pending;
    return ::sigpending(&pending) == 0 && (sigismember(&pending, SIGINT) == 1 ||
                                           sigismember(&pending, SIGTERM) == 1);
  }

 private:
  sigset_t held_, before_;
};

// Waits until all agents are alive, or somebody interrupts.
absl::Status AwaitAgents(Context& context, size_t count, absl::Time deadline,
                         const SignalsHeld& signals) {
  SLUICE_ASSIGN_OR_RETURN(Client * client, context.client());
  for (;;) {
    if (signals.came()) return absl::CancelledError("interrupted");
    absl::StatusOr<v1::GetStatusResponse> status = client->GetStatus(1);
    const auto alive =
        !status.ok()
            ? 0
            : std::count_if(status->agents().begin(), status->agents().end(),
                            [](const v1::AgentStatus& agent) {
                              return agent.state() == v1::AGENT_STATE_ALIVE;
                            });
    if (static_cast<size_t>(alive) == count) return absl::OkStatus();
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("only ", alive, " of ", count, " agents are alive"));
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
}

absl::Status Up(Context& context, const UpOptions& up) {
  local_cluster::Options options = up.cluster;
  options.dir = context.globals().state_dir;
  if (options.dir.empty()) {
    return absl::InvalidArgumentError(
        "where to keep its state? Give --state-dir DIR");
  }
  SLUICE_RETURN_IF_ERROR(local_cluster::FindBinaries(options));
  const SignalsHeld signals;
  const absl::Duration timeout = absl::Seconds(up.timeout_seconds);
  const absl::Time deadline = absl::Now() + timeout;
  SLUICE_ASSIGN_OR_RETURN(LocalCluster cluster,
                          LocalCluster::Start(options, timeout));
  const absl::Status ready =
      AwaitAgents(context, cluster.agents().size(), deadline, signals);
  if (!ready.ok()) {
    cluster.Stop().IgnoreError();
    return ready;
  }
  if (context.json()) {
    const nlohmann::ordered_json json = {
        {"coordinator", cluster.coordinator_address()},
        {"state_dir", cluster.dir()},
        {"agents", cluster.agents().size()}};
    Context::Print(json.dump(2) + "\n");
  } else {
    Context::Print(absl::StrCat(
        "coordinator ", cluster.coordinator_address(), ", ",
        cluster.agents().size(), " agents on ", options.nodes,
        " nodes; logs and state in ", cluster.dir(),
        "\n\n  sluicectl --state-dir ", cluster.dir(),
        " status\n  sluicectl --state-dir ", cluster.dir(), " down\n"));
  }
  return absl::OkStatus();
}

absl::Status Down(Context& context, const DownOptions& down) {
  const std::string& dir = context.globals().state_dir;
  if (dir.empty()) {
    return absl::InvalidArgumentError(
        "which cluster? Give the --state-dir it was started with");
  }
  SLUICE_ASSIGN_OR_RETURN(LocalCluster cluster, LocalCluster::Open(dir));
  const size_t agents = cluster.agents().size();
  SLUICE_RETURN_IF_ERROR(cluster.Stop(absl::Seconds(down.grace_seconds)));
  if (context.json()) {
    Context::Print("{}\n");
  } else {
    Context::Print(
        absl::StrCat("stopped ", agents, " agents and the coordinator\n"));
  }
  return absl::OkStatus();
}

}  // namespace

void AddClusterCommands(CLI::App& app, Action& chosen) {
  AddCommand<UpOptions>(
      app, chosen, "up",
      "Starts a coordinator and nodes x agents on this machine.\n"
      "Example: sluicectl --state-dir /tmp/sluice up --nodes 2 "
      "--agents-per-node 4",
      [](CLI::App& command, UpOptions& up) {
        local_cluster::Options& options = up.cluster;
        command.add_option("--nodes", options.nodes, "Number of nodes")
            ->capture_default_str();
        command
            .add_option("--agents-per-node", options.agents_per_node,
                        "Agents of each node")
            ->capture_default_str();
        command
            .add_option("--agent-memory", options.agent_memory_bytes,
                        "Memory an agent may use, in bytes")
            ->capture_default_str();
        command
            .add_option("--agent-staging", options.agent_staging_bytes,
                        "Staging memory of an agent, in bytes")
            ->capture_default_str();
        command.add_option("--coordinator-binary", options.coordinator_binary,
                           "Default: found beside this program");
        command.add_option("--agent-binary", options.agent_binary,
                           "Default: found beside this program");
        command.add_option("--coordinator-flag", options.coordinator_flags,
                           "Another flag for the coordinator; repeatable");
        command.add_option("--agent-flag", options.agent_flags,
                           "Another flag for every agent; repeatable");
        command
            .add_option("--start-timeout", up.timeout_seconds,
                        "Seconds until all must be alive")
            ->capture_default_str();
      },
      Up);
  AddCommand<DownOptions>(
      app, chosen, "down",
      "Stops a cluster that `up` or `quickstart --keep` started.\n"
      "Example: sluicectl --state-dir /tmp/sluice down",
      [](CLI::App& command, DownOptions& down) {
        command
            .add_option("--grace", down.grace_seconds,
                        "Seconds until SIGTERM is followed by SIGKILL")
            ->capture_default_str();
      },
      Down);
}

}  // namespace sluice::ctl
