#include "tools/local_cluster/local_cluster.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/failpoint.h"
#include "common/status_macros.h"

namespace sluice::local_cluster {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// A Unix socket's path may have 107 bytes; "/agent-NNNN.grpc.sock" needs 21.
constexpr size_t kMaxSocketDirLength = 80;
constexpr char kDescription[] = "cluster.json";

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The last lines of a log, for an error message.
std::string LogTail(const std::string& path) {
  const std::string text = ReadAll(path);
  constexpr size_t kTail = 600;
  return text.size() <= kTail ? text : text.substr(text.size() - kTail);
}

// Waits until a starting daemon has written its port, or has ended.
absl::StatusOr<int> AwaitPort(const Process& process, const std::string& path,
                              const std::string& log, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0));
  absl::Status status = absl::DeadlineExceededError(absl::StrCat(
      "no port in ", path, " within ", absl::FormatDuration(timeout)));
  int port = 0;
  while (absl::Now() < deadline) {
    // "PORT" or "HOST:PORT", whole when its line is.
    const std::string text = ReadAll(path);
    if (text.find('\n') != std::string::npos) {
      port = std::atoi(text.c_str() + (text.rfind(':') + 1));
    }
    if (port > 0) break;
    pollfd poll_fd{pidfd, POLLIN, 0};
    if (::poll(&poll_fd, 1, 10) > 0) {
      status = absl::UnavailableError(
          absl::StrCat("a daemon ended at its start; its log ", log,
                       " ends with:\n", LogTail(log)));
      break;
    }
  }
  if (pidfd >= 0) ::close(pidfd);
  if (port > 0) return port;
  return status;
}

Json ToJson(const Process& process) {
  return {{"pid", process.pid}, {"start_ticks", process.start_ticks}};
}

Process ProcessFrom(const Json& json) {
  return {json.at("pid").get<pid_t>(), json.at("start_ticks").get<uint64_t>()};
}

}  // namespace

absl::Status Options::Validate() const {
  if (dir.empty())
    return absl::InvalidArgumentError("state directory is empty");
  if (nodes < 1 || agents_per_node < 1 || nodes * agents_per_node > 256) {
    return absl::InvalidArgumentError(absl::StrCat(
        "nodes=", nodes, " agents_per_node=", agents_per_node,
        ": expected at least 1 each and at most 256 agents in all"));
  }
  if (agent_memory_bytes < 1 || agent_staging_bytes < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("agent memory ", agent_memory_bytes, " and staging ",
                     agent_staging_bytes, " bytes: expected at least 1 each"));
  }
  return absl::OkStatus();
}

void LocalCluster::SetCoordinatorArgv(const Options& options) {
  coordinator_argv_ = {
      options.coordinator_binary,
      "--listen=127.0.0.1:0",
      absl::StrCat("--state-dir=", dir_, "/coordinator"),
      absl::StrCat("--port-file=", dir_, "/coordinator.port"),
      absl::StrCat("--lease=", absl::FormatDuration(options.lease)),
      absl::StrCat("--heartbeat-interval=",
                   absl::FormatDuration(options.heartbeat_interval))};
  for (const std::string& flag : options.coordinator_flags) {
    coordinator_argv_.push_back(flag);
  }
}

AgentProcess LocalCluster::NewAgent(const Options& options, int i) const {
  AgentProcess agent;
  agent.name = absl::StrCat("agent-", i);
  agent.node = absl::StrCat("node-", i / options.agents_per_node);
  agent.socket = absl::StrCat(socket_dir_, "/", agent.name, ".grpc.sock");
  agent.argv = {options.agent_binary,
                absl::StrCat("--name=", agent.name),
                absl::StrCat("--node=", agent.node),
                absl::StrCat("--coordinator=", address_),
                "--listen=127.0.0.1:0",
                absl::StrCat("--port-file=", dir_, "/", agent.name, ".port"),
                absl::StrCat("--socket-dir=", socket_dir_),
                absl::StrCat("--memory=", options.agent_memory_bytes),
                absl::StrCat("--staging=", options.agent_staging_bytes)};
  for (const std::string& flag : options.agent_flags) {
    agent.argv.push_back(flag);
  }
  const auto number = static_cast<size_t>(i);
  if (number < options.own_agent_flags.size()) {
    for (const std::string& flag : options.own_agent_flags[number]) {
      agent.argv.push_back(flag);
    }
  }
  return agent;
}

absl::StatusOr<LocalCluster> LocalCluster::Start(const Options& options,
                                                 absl::Duration timeout) {
  SLUICE_RETURN_IF_ERROR(options.Validate());
  std::error_code error;
  fs::create_directories(options.dir, error);
  if (error) {
    return absl::PermissionDeniedError(absl::StrCat(
        "cannot make state directory ", options.dir, ": ", error.message()));
  }
  LocalCluster cluster;
  cluster.dir_ = fs::absolute(options.dir).string();
  cluster.die_with_parent_ = options.die_with_parent;
  cluster.failpoint_files_ = options.failpoint_files;
  if (auto running = Open(cluster.dir_);
      running.ok() && IsAlive(running->coordinator_)) {
    return absl::AlreadyExistsError(
        absl::StrCat("a cluster runs in ", cluster.dir_, " (coordinator pid ",
                     running->coordinator_.pid, "); stop it first"));
  }
  cluster.socket_dir_ = absl::StrCat(cluster.dir_, "/sockets");
  if (cluster.socket_dir_.size() > kMaxSocketDirLength) {
    char path[] = "/tmp/sluice-XXXXXX";
    if (::mkdtemp(path) == nullptr) {
      return absl::InternalError(
          absl::StrCat("cannot make ", path, ": ", std::strerror(errno)));
    }
    cluster.socket_dir_ = path;
  }
  cluster.SetCoordinatorArgv(options);
  absl::Status started = cluster.StartCoordinator(timeout);
  for (int i = 0; started.ok() && i < options.nodes * options.agents_per_node;
       ++i) {
    cluster.agents_.push_back(cluster.NewAgent(options, i));
    const auto number = static_cast<size_t>(i);
    if (number < options.own_agent_environment.size()) {
      cluster.own_environment_[cluster.agents_.back().name] =
          options.own_agent_environment[number];
    }
    started = cluster.StartAgent(cluster.agents_.back(), timeout);
  }
  if (started.ok()) started = cluster.WriteDescription();
  if (!started.ok()) {
    cluster.Stop().IgnoreError();
    return started;
  }
  return cluster;
}

std::string LocalCluster::FailpointFile(const std::string& name) const {
  return absl::StrCat(dir_, "/", name, ".failpoint");
}

absl::StatusOr<std::vector<std::string>> LocalCluster::Environment(
    const std::string& name) const {
  std::vector<std::string> environment;
  if (const auto own = own_environment_.find(name);
      own != own_environment_.end()) {
    environment = own->second;
  }
  if (!failpoint_files_) return environment;
  const std::string path = FailpointFile(name);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << std::string(sizeof(FailpointControl), '\0');
  file.close();
  if (!file) {
    return absl::InternalError(absl::StrCat("cannot write ", path));
  }
  environment.push_back(absl::StrCat("SLUICE_FAILPOINT_FILE=", path));
  return environment;
}

absl::Status LocalCluster::StartCoordinator(absl::Duration timeout) {
  const std::string port_file = absl::StrCat(dir_, "/coordinator.port");
  const std::string log = absl::StrCat(dir_, "/coordinator.log");
  ::unlink(port_file.c_str());
  SpawnOptions options;
  options.die_with_parent = die_with_parent_;
  SLUICE_ASSIGN_OR_RETURN(options.environment, Environment("coordinator"));
  SLUICE_ASSIGN_OR_RETURN(coordinator_, Spawn(coordinator_argv_, log, options));
  SLUICE_ASSIGN_OR_RETURN(const int port,
                          AwaitPort(coordinator_, port_file, log, timeout));
  address_ = absl::StrCat("127.0.0.1:", port);
  return absl::OkStatus();
}

absl::Status LocalCluster::StartAgent(AgentProcess& agent,
                                      absl::Duration timeout) {
  const std::string port_file = absl::StrCat(dir_, "/", agent.name, ".port");
  const std::string log = absl::StrCat(dir_, "/", agent.name, ".log");
  ::unlink(port_file.c_str());
  SpawnOptions options;
  options.die_with_parent = die_with_parent_;
  SLUICE_ASSIGN_OR_RETURN(options.environment, Environment(agent.name));
  SLUICE_ASSIGN_OR_RETURN(agent.process, Spawn(agent.argv, log, options));
  return AwaitPort(agent.process, port_file, log, timeout).status();
}

absl::Status LocalCluster::RestartCoordinator(absl::Duration timeout) {
  if (IsAlive(coordinator_)) {
    return absl::FailedPreconditionError(
        absl::StrCat("coordinator ", coordinator_.pid, " still runs"));
  }
  // On the port it had: agents and clients know no other.
  coordinator_argv_[1] = absl::StrCat("--listen=", address_);
  SLUICE_RETURN_IF_ERROR(StartCoordinator(timeout));
  return WriteDescription();
}

absl::Status LocalCluster::RestartAgent(size_t index, absl::Duration timeout) {
  AgentProcess& agent = agents_.at(index);
  if (IsAlive(agent.process)) {
    return absl::FailedPreconditionError(
        absl::StrCat(agent.name, " (pid ", agent.process.pid, ") still runs"));
  }
  SLUICE_RETURN_IF_ERROR(StartAgent(agent, timeout));
  return WriteDescription();
}

absl::Status LocalCluster::WriteDescription() const {
  Json json = {{"coordinator_address", address_},
               {"socket_dir", socket_dir_},
               {"coordinator", ToJson(coordinator_)},
               {"coordinator_argv", coordinator_argv_},
               {"agents", Json::array()}};
  for (const AgentProcess& agent : agents_) {
    json["agents"].push_back({{"name", agent.name},
                              {"node", agent.node},
                              {"socket", agent.socket},
                              {"process", ToJson(agent.process)},
                              {"argv", agent.argv}});
  }
  const std::string path = absl::StrCat(dir_, "/", kDescription);
  std::ofstream file(path + ".new", std::ios::trunc);
  file << json.dump(1) << "\n";
  file.close();
  std::error_code error;
  fs::rename(path + ".new", path, error);
  if (!file || error) {
    return absl::InternalError(
        absl::StrCat("cannot write ", path, ": ", error.message()));
  }
  return absl::OkStatus();
}

absl::StatusOr<LocalCluster> LocalCluster::Open(const std::string& dir) {
  LocalCluster cluster;
  cluster.dir_ = fs::absolute(dir).string();
  const std::string path = absl::StrCat(cluster.dir_, "/", kDescription);
  const Json json = Json::parse(ReadAll(path), nullptr, false);
  if (json.is_discarded()) {
    return absl::NotFoundError(
        absl::StrCat("no cluster in ", dir, ": ", path, " is not there"));
  }
  try {
    cluster.address_ = json.at("coordinator_address").get<std::string>();
    cluster.socket_dir_ = json.at("socket_dir").get<std::string>();
    cluster.coordinator_ = ProcessFrom(json.at("coordinator"));
    cluster.coordinator_argv_ =
        json.at("coordinator_argv").get<std::vector<std::string>>();
    for (const Json& entry : json.at("agents")) {
      cluster.agents_.push_back(
          {entry.at("name").get<std::string>(),
           entry.at("node").get<std::string>(),
           entry.at("socket").get<std::string>(),
           ProcessFrom(entry.at("process")),
           entry.at("argv").get<std::vector<std::string>>()});
    }
  } catch (const Json::exception& bad) {
    return absl::DataLossError(absl::StrCat(path, ": ", bad.what()));
  }
  return cluster;
}

absl::Status LocalCluster::Stop(absl::Duration grace) {
  absl::Status first;
  // All at once: they drain side by side.
  for (const AgentProcess& agent : agents_) {
    Signal(agent.process, SIGTERM).IgnoreError();
    Signal(agent.process, SIGCONT).IgnoreError();
  }
  for (const AgentProcess& agent : agents_) {
    if (agent.process.pid != 0)
      first.Update(local_cluster::Stop(agent.process, grace));
  }
  if (coordinator_.pid != 0) {
    first.Update(local_cluster::Stop(coordinator_, grace));
  }
  std::error_code ignored;
  fs::remove_all(socket_dir_, ignored);
  fs::remove(absl::StrCat(dir_, "/", kDescription), ignored);
  for (const AgentProcess& agent : agents_) {
    fs::remove(absl::StrCat(dir_, "/", agent.name, ".port"), ignored);
  }
  fs::remove(absl::StrCat(dir_, "/coordinator.port"), ignored);
  return first;
}

}  // namespace sluice::local_cluster
