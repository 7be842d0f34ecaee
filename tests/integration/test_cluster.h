#ifndef SLUICE_TESTS_INTEGRATION_TEST_CLUSTER_H_
#define SLUICE_TESTS_INTEGRATION_TEST_CLUSTER_H_

// A cluster of real processes for a test: starts and stops it, waits for what
// the coordinator's status says, kills and arms failpoints.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/cpp/client.h"
#include "client/cpp/worker.h"
#include "common/failpoint.h"
#include "tests/support/test_dir.h"
#include "tools/local_cluster/local_cluster.h"

namespace sluice::testing {

// How long a test waits for what must come: far beyond any promise, so that
// only a hang meets it.
inline constexpr absl::Duration kPatience = absl::Seconds(30);

// A failpoint armed in a running daemon. It points into the daemon's mapped
// control file and must go before the daemon is started again.
class ArmedFailpoint {
 public:
  // Errors: NOT_FOUND - no control file. Acts after `amount` more have passed.
  static absl::StatusOr<std::unique_ptr<ArmedFailpoint>> Arm(
      const std::string& file, absl::string_view name, int64_t amount,
      FailpointControl::Action action);
  // Disarms.
  ~ArmedFailpoint();
  ArmedFailpoint(const ArmedFailpoint&) = delete;
  ArmedFailpoint& operator=(const ArmedFailpoint&) = delete;

  bool fired() const { return control_->fired.load() != 0; }
  // What has passed the point since it was armed.
  int64_t passed() const { return amount_ - control_->remaining.load(); }

 private:
  ArmedFailpoint(FailpointControl* control, int64_t amount)
      : control_(control), amount_(amount) {}

  FailpointControl* const control_;
  const int64_t amount_;
};

class TestCluster {
 public:
  struct Options {
    int nodes = 2;
    int agents_per_node = 2;
    int64_t agent_memory_bytes = int64_t{512} << 20;
    int64_t agent_staging_bytes = int64_t{16} << 20;
    absl::Duration lease = absl::Seconds(3);
    absl::Duration heartbeat_interval = absl::Milliseconds(300);
    // Starts the daemons that link failpoints.
    bool failpoints = false;
    // Numbers of the GPUs that agents serve, by agent; those behind serve host
    // memory. Starts agents whose GPUs are fakes (tests/fakes/cuda).
    std::vector<int> gpus = {};
    // How many neighbours among the GPUs of a node reach each other's memory;
    // 0: all of them.
    int gpu_reach = 0;
    // Added to all agents'.
    std::vector<std::string> agent_flags = {};
  };

  // Starts all processes and waits until every agent is ALIVE.
  static absl::StatusOr<std::unique_ptr<TestCluster>> Start(
      const Options& options);
  // Stops what still runs. Logs are kept below $SLUICE_TEST_LOGS, if set.
  ~TestCluster();
  TestCluster(const TestCluster&) = delete;
  TestCluster& operator=(const TestCluster&) = delete;

  local_cluster::LocalCluster& processes() { return *processes_; }
  const std::string& dir() const { return dir_.path(); }
  int size() const { return static_cast<int>(processes_->agents().size()); }
  std::string AgentName(int agent) const {
    return processes_->agents().at(static_cast<size_t>(agent)).name;
  }
  std::vector<std::string> AgentNames(const std::vector<int>& agents) const;

  // Tries again while the coordinator is away.
  Client& client() { return *client_; }
  // Says UNAVAILABLE at once instead.
  Client& impatient_client() { return *impatient_; }

  // Attaches a worker to an agent; waits for an agent that starts.
  absl::StatusOr<std::unique_ptr<Worker>> Attach(int agent,
                                                 const std::string& name);

  // Waits until `reached` of the status is true.
  // Errors: DEADLINE_EXCEEDED - with `what` and the last status.
  absl::Status AwaitStatus(
      absl::string_view what,
      const std::function<bool(const v1::GetStatusResponse&)>& reached,
      absl::Duration timeout = kPatience);
  // Waits until the coordinator recovers no more and all agents are ALIVE.
  absl::Status AwaitAllAlive(absl::Duration timeout = kPatience);

  // Ends a process with SIGKILL and reaps it.
  absl::Status KillAgent(int agent);
  absl::Status KillCoordinator();
  absl::Status RestartAgent(int agent);
  absl::Status RestartCoordinator();

  // "coordinator" or an agent's name.
  absl::StatusOr<std::unique_ptr<ArmedFailpoint>> Arm(
      const std::string& daemon, absl::string_view point, int64_t amount = 1,
      FailpointControl::Action action = FailpointControl::kKill);
  const local_cluster::Process& Daemon(const std::string& daemon) const;

 private:
  TestCluster() = default;

  TestDir dir_;
  std::unique_ptr<local_cluster::LocalCluster> processes_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Client> impatient_;
};

// Everything the cluster knows that an operation could change, in words:
// models, versions, replicas, samples, memory. Two equal texts mean nothing
// changed.
std::string StateInWords(const v1::GetStatusResponse& status);

// Versions of all replicas of a placement, in order; 0 where members differ.
std::vector<uint64_t> ReplicaVersions(const v1::GetStatusResponse& status,
                                      const std::string& model,
                                      const std::string& placement);

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_TEST_CLUSTER_H_
