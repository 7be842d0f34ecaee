#include "tests/integration/test_cluster.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "tools/local_cluster/binaries.h"

namespace sluice::testing {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kPoll = absl::Milliseconds(5);
// An agent that starts binds its sockets a little after its process runs.
constexpr absl::Duration kStartTimeout = absl::Seconds(20);

absl::StatusOr<local_cluster::Options> ProcessOptions(
    const TestCluster::Options& options, const std::string& dir) {
  local_cluster::Options cluster;
  const std::string suffix = options.failpoints ? "_with_failpoints" : "";
  SLUICE_ASSIGN_OR_RETURN(cluster.coordinator_binary,
                          local_cluster::FindProgram({absl::StrCat(
                              "coordinator/coordinator", suffix)}));
  SLUICE_ASSIGN_OR_RETURN(
      cluster.agent_binary,
      local_cluster::FindProgram({absl::StrCat(
          options.gpus.empty() ? "agent/agent"
                               : "tests/fakes/cuda/fake_gpu_agent",
          suffix)}));
  cluster.dir = absl::StrCat(dir, "/c");
  cluster.nodes = options.nodes;
  cluster.agents_per_node = options.agents_per_node;
  cluster.agent_memory_bytes = options.agent_memory_bytes;
  cluster.agent_staging_bytes = options.agent_staging_bytes;
  cluster.lease = options.lease;
  cluster.heartbeat_interval = options.heartbeat_interval;
  cluster.die_with_parent = true;
  cluster.failpoint_files = options.failpoints;
  cluster.agent_flags = options.agent_flags;
  for (const int gpu : options.gpus) {
    cluster.own_agent_flags.push_back({absl::StrCat("--device=cuda:", gpu)});
    cluster.own_agent_environment.push_back(
        {absl::StrCat("SLUICE_FAKE_GPU_REACH=", options.gpu_reach)});
    // The machine's own library is none for GPUs that are fakes.
    if (std::getenv("SLUICE_NCCL_LIBRARY") == nullptr) {
      cluster.own_agent_environment.back().push_back(
          "SLUICE_NCCL_LIBRARY=none");
    }
  }
  return cluster;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ArmedFailpoint>> ArmedFailpoint::Arm(
    const std::string& file, absl::string_view name, int64_t amount,
    FailpointControl::Action action) {
  const int fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    return absl::NotFoundError(
        absl::StrCat("failpoint file ", file, ": ", std::strerror(errno)));
  }
  void* memory = ::mmap(nullptr, sizeof(FailpointControl),
                        PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (memory == MAP_FAILED) {
    return absl::InternalError(absl::StrCat("cannot map ", file));
  }
  auto* control = static_cast<FailpointControl*>(memory);
  const size_t length =
      std::min<size_t>(name.size(), FailpointControl::kNameBytes - 1);
  std::memset(control->name, 0, sizeof(control->name));
  std::memcpy(control->name, name.data(), length);
  control->fired.store(0);
  control->remaining.store(amount);
  control->action.store(action, std::memory_order_release);
  return std::unique_ptr<ArmedFailpoint>(new ArmedFailpoint(control, amount));
}

ArmedFailpoint::~ArmedFailpoint() {
  control_->action.store(FailpointControl::kNone);
  ::munmap(control_, sizeof(FailpointControl));
}

absl::StatusOr<std::unique_ptr<TestCluster>> TestCluster::Start(
    const Options& options) {
  std::unique_ptr<TestCluster> cluster(new TestCluster());
  SLUICE_ASSIGN_OR_RETURN(const local_cluster::Options process_options,
                          ProcessOptions(options, cluster->dir()));
  SLUICE_ASSIGN_OR_RETURN(
      local_cluster::LocalCluster processes,
      local_cluster::LocalCluster::Start(process_options, kStartTimeout));
  cluster->processes_ =
      std::make_unique<local_cluster::LocalCluster>(std::move(processes));
  const std::string address = cluster->processes_->coordinator_address();
  SLUICE_ASSIGN_OR_RETURN(
      cluster->client_,
      Client::Connect({.address = address, .retry_for = kPatience}));
  SLUICE_ASSIGN_OR_RETURN(
      cluster->impatient_,
      Client::Connect({.address = address, .retry_for = absl::ZeroDuration()}));
  SLUICE_RETURN_IF_ERROR(cluster->AwaitAllAlive());
  return cluster;
}

TestCluster::~TestCluster() {
  if (processes_ == nullptr) return;
  processes_->Stop().IgnoreError();
  const char* keep = std::getenv("SLUICE_TEST_LOGS");
  if (keep == nullptr) return;
  std::error_code ignored;
  const fs::path dir = fs::path(keep) / fs::path(dir_.path()).filename();
  fs::create_directories(dir, ignored);
  for (const auto& entry : fs::directory_iterator(processes_->dir(), ignored)) {
    if (entry.path().extension() == ".log")
      fs::copy(entry.path(), dir, ignored);
  }
}

std::vector<std::string> TestCluster::AgentNames(
    const std::vector<int>& agents) const {
  std::vector<std::string> names;
  for (const int agent : agents) names.push_back(AgentName(agent));
  return names;
}

absl::StatusOr<std::unique_ptr<Worker>> TestCluster::Attach(
    int agent, const std::string& name) {
  WorkerOptions options;
  options.agent_socket =
      processes_->agents().at(static_cast<size_t>(agent)).socket;
  options.name = name;
  return Worker::Attach(std::move(options));
}

absl::Status TestCluster::AwaitStatus(
    absl::string_view what,
    const std::function<bool(const v1::GetStatusResponse&)>& reached,
    absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  absl::StatusOr<v1::GetStatusResponse> status;
  do {
    status = impatient_->GetStatus(5);
    if (status.ok() && reached(*status)) return absl::OkStatus();
    absl::SleepFor(kPoll);
  } while (absl::Now() < deadline);
  return absl::DeadlineExceededError(absl::StrCat(
      "no ", what, " within ", absl::FormatDuration(timeout), "; status: ",
      status.ok() ? status->ShortDebugString() : status.status().ToString()));
}

absl::Status TestCluster::AwaitAllAlive(absl::Duration timeout) {
  return AwaitStatus(
      "cluster of live agents",
      [this](const v1::GetStatusResponse& status) {
        const auto alive =
            std::count_if(status.agents().begin(), status.agents().end(),
                          [](const v1::AgentStatus& agent) {
                            return agent.state() == v1::AGENT_STATE_ALIVE;
                          });
        if (status.recovering() || alive != size()) return false;
        // Of a restarted agent, the new life.
        return std::all_of(status.agents().begin(), status.agents().end(),
                           [this](const v1::AgentStatus& agent) {
                             return agent.pid() == Daemon(agent.name()).pid;
                           });
      },
      timeout);
}

const local_cluster::Process& TestCluster::Daemon(
    const std::string& daemon) const {
  for (const local_cluster::AgentProcess& agent : processes_->agents()) {
    if (agent.name == daemon) return agent.process;
  }
  return processes_->coordinator();
}

absl::Status TestCluster::KillAgent(int agent) {
  const local_cluster::Process& process = Daemon(AgentName(agent));
  SLUICE_RETURN_IF_ERROR(local_cluster::Signal(process, SIGKILL));
  return local_cluster::WaitForExit(process, kPatience).status();
}

absl::Status TestCluster::KillCoordinator() {
  const local_cluster::Process& process = processes_->coordinator();
  SLUICE_RETURN_IF_ERROR(local_cluster::Signal(process, SIGKILL));
  return local_cluster::WaitForExit(process, kPatience).status();
}

absl::Status TestCluster::RestartAgent(int agent) {
  return processes_->RestartAgent(static_cast<size_t>(agent), kStartTimeout);
}

absl::Status TestCluster::RestartCoordinator() {
  return processes_->RestartCoordinator(kStartTimeout);
}

absl::StatusOr<std::unique_ptr<ArmedFailpoint>> TestCluster::Arm(
    const std::string& daemon, absl::string_view point, int64_t amount,
    FailpointControl::Action action) {
  return ArmedFailpoint::Arm(processes_->FailpointFile(daemon), point, amount,
                             action);
}

std::string StateInWords(const v1::GetStatusResponse& status) {
  std::string words = absl::StrCat("cluster ", status.cluster_id(), "\n");
  for (const v1::AgentStatus& agent : status.agents()) {
    absl::StrAppend(&words, agent.name(), " ",
                    v1::AgentState_Name(agent.state()), " parameters ",
                    agent.parameter_bytes(), " samples ", agent.sample_bytes(),
                    "\n");
  }
  for (const v1::ModelStatus& model : status.models()) {
    absl::StrAppend(&words, "model ", model.model(), " version ",
                    model.version(), " tensors ", model.tensors(), "\n");
    for (const v1::PlacementStatus& placement : model.placements()) {
      absl::StrAppend(&words, " ", placement.ShortDebugString(), "\n");
    }
  }
  absl::StrAppend(&words, "samples ", status.samples(), " tensors ",
                  status.sample_tensors(), "\n");
  return words;
}

std::vector<uint64_t> ReplicaVersions(const v1::GetStatusResponse& status,
                                      const std::string& model,
                                      const std::string& placement) {
  std::vector<uint64_t> versions;
  for (const v1::ModelStatus& known : status.models()) {
    if (known.model() != model) continue;
    for (const v1::PlacementStatus& held : known.placements()) {
      if (held.placement() != placement) continue;
      for (const v1::ReplicaStatus& replica : held.replicas()) {
        versions.push_back(replica.version());
      }
    }
  }
  return versions;
}

}  // namespace sluice::testing
