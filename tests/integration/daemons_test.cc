// The daemons as services: addresses, directories, signals, and what is left
// behind.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/integration/patterned_model.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"
#include "tools/local_cluster/binaries.h"
#include "tools/local_cluster/process.h"

namespace sluice::testing {
namespace {

namespace fs = std::filesystem;
using local_cluster::Process;

// A daemon run to its end with its output in DIR/log.
struct Finished {
  int exit_code = 0;
  std::string log;
};

absl::StatusOr<std::string> Binary(const std::string& name) {
  return local_cluster::FindProgram({absl::StrCat(name, "/", name)});
}

Finished RunToEnd(const TestDir& dir, std::vector<std::string> argv) {
  const std::string log = dir.File("log");
  const auto process =
      local_cluster::Spawn(argv, log, {.die_with_parent = true});
  REQUIRE_OK(process);
  const auto exit_code = local_cluster::WaitForExit(*process, kPatience);
  REQUIRE_OK(exit_code);
  return {*exit_code, ReadFile(log)};
}

// A socket that listens on a port of its own.
class PortHolder {
 public:
  PortHolder() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    ::bind(fd_, reinterpret_cast<sockaddr*>(&address), size);
    ::listen(fd_, 1);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  ~PortHolder() { ::close(fd_); }

  int port() const { return port_; }

 private:
  int fd_;
  int port_ = 0;
};

// Names in a folder, without folders that are not there.
std::set<std::string> Names(const std::string& folder) {
  std::set<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

// Memory files this process holds open or mapped.
int CountMemoryFiles() {
  int count = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd", error)) {
    const std::string target = fs::read_symlink(entry.path(), error).string();
    if (absl::StrContains(target, "memfd:")) ++count;
  }
  std::ifstream maps("/proc/self/maps");
  std::string line;
  while (std::getline(maps, line)) {
    if (absl::StrContains(line, "memfd:")) ++count;
  }
  return count;
}

// Whether a signal was sent to a process and not taken yet.
bool IsPending(const Process& process, int signal) {
  std::ifstream status(absl::StrCat("/proc/", process.pid, "/status"));
  std::string line;
  while (std::getline(status, line)) {
    if (!absl::StartsWith(line, "ShdPnd:")) continue;
    const uint64_t pending = std::stoull(line.substr(7), nullptr, 16);
    return (pending >> (signal - 1) & 1) != 0;
  }
  return false;
}

TEST_CASE("a port in use is refused by both daemons, which say so",
          "[integration][daemons]") {
  const std::string name = GENERATE(as<std::string>{}, "coordinator", "agent");
  CAPTURE(name);
  const TestDir dir;
  const PortHolder holder;
  REQUIRE_OK_AND_ASSIGN(const std::string binary, Binary(name));
  std::vector<std::string> argv = {
      binary, absl::StrCat("--listen=127.0.0.1:", holder.port())};
  if (name == "coordinator") {
    argv.push_back(absl::StrCat("--state-dir=", dir.File("state")));
  } else {
    argv.insert(argv.end(), {"--name=a", "--coordinator=127.0.0.1:1",
                             absl::StrCat("--socket-dir=", dir.File("s"))});
  }
  const Finished finished = RunToEnd(dir, argv);
  CHECK(finished.exit_code != 0);
  CHECK(absl::StrContains(finished.log, absl::StrCat(holder.port())));
  CHECK(absl::StrContains(finished.log, "in use"));
}

TEST_CASE("a directory that cannot be written is refused and named",
          "[integration][daemons]") {
  const std::string name = GENERATE(as<std::string>{}, "coordinator", "agent");
  CAPTURE(name);
  const TestDir dir;
  // A file where the folder should be: refused for root too.
  const std::string path = dir.Write("file", "") + "/below";
  REQUIRE_OK_AND_ASSIGN(const std::string binary, Binary(name));
  std::vector<std::string> argv = {binary, "--listen=127.0.0.1:0"};
  if (name == "coordinator") {
    argv.push_back(absl::StrCat("--state-dir=", path));
  } else {
    argv.insert(argv.end(), {"--name=a", "--coordinator=127.0.0.1:1",
                             absl::StrCat("--socket-dir=", path)});
  }
  const Finished finished = RunToEnd(dir, argv);
  CHECK(finished.exit_code != 0);
  CHECK(absl::StrContains(finished.log, path));
}

TEST_CASE("a second coordinator on one state directory is refused",
          "[integration][daemons]") {
  REQUIRE_OK_AND_ASSIGN(const auto cluster,
                        TestCluster::Start({.nodes = 1, .agents_per_node = 1}));
  REQUIRE_OK_AND_ASSIGN(const std::string binary, Binary("coordinator"));
  const TestDir dir;
  const std::string state =
      absl::StrCat(cluster->processes().dir(), "/coordinator");
  const Finished finished = RunToEnd(
      dir,
      {binary, "--listen=127.0.0.1:0", absl::StrCat("--state-dir=", state)});
  CHECK(finished.exit_code != 0);
  // It names the holder of the lock.
  CHECK(absl::StrContains(
      finished.log, absl::StrCat(cluster->processes().coordinator().pid)));
  CHECK_OK(cluster->client().GetStatus());
}

TEST_CASE("a second agent of one name is refused while the first lives",
          "[integration][daemons]") {
  REQUIRE_OK_AND_ASSIGN(const auto cluster,
                        TestCluster::Start({.nodes = 1, .agents_per_node = 1}));
  const TestDir dir;
  std::vector<std::string> argv = cluster->processes().agents()[0].argv;
  for (std::string& arg : argv) {
    if (absl::StartsWith(arg, "--port-file=")) arg = "--log-level=info";
  }
  const Finished finished = RunToEnd(dir, argv);
  CHECK(finished.exit_code != 0);
  CHECK(absl::StrContains(finished.log, "agent-0"));
  REQUIRE_OK(cluster->AwaitAllAlive());
}

TEST_CASE("SIGTERM drains and exits 0 within ten seconds",
          "[integration][daemons]") {
  REQUIRE_OK_AND_ASSIGN(const auto cluster,
                        TestCluster::Start({.nodes = 1, .agents_per_node = 2}));
  REQUIRE_OK_AND_ASSIGN(const auto worker, cluster->Attach(0, "idler"));
  for (const char* daemon : {"agent-0", "agent-1", "coordinator"}) {
    CAPTURE(daemon);
    const Process process = cluster->Daemon(daemon);
    REQUIRE_OK(local_cluster::Signal(process, SIGTERM));
    REQUIRE_OK_AND_ASSIGN(const int exit_code, local_cluster::WaitForExit(
                                                   process, absl::Seconds(10)));
    CHECK(exit_code == 0);
  }
}

TEST_CASE("a second SIGTERM ends a draining daemon at once",
          "[integration][daemons]") {
  REQUIRE_OK_AND_ASSIGN(const auto cluster,
                        TestCluster::Start({.nodes = 1, .agents_per_node = 1}));
  // Its coordinator does not answer: the agent waits to say that it leaves.
  const Process coordinator = cluster->Daemon("coordinator");
  REQUIRE_OK(local_cluster::Signal(coordinator, SIGSTOP));
  const Process agent = cluster->Daemon("agent-0");
  REQUIRE_OK(local_cluster::Signal(agent, SIGTERM));
  const absl::Time deadline = absl::Now() + kPatience;
  while (IsPending(agent, SIGTERM) && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  REQUIRE_OK(local_cluster::Signal(agent, SIGTERM));
  REQUIRE_OK_AND_ASSIGN(const int exit_code,
                        local_cluster::WaitForExit(agent, absl::Seconds(1)));
  CHECK(exit_code == 128 + SIGTERM);
  REQUIRE_OK(local_cluster::Signal(coordinator, SIGCONT));
}

TEST_CASE("a cluster leaves nothing behind", "[integration][daemons]") {
  const std::set<std::string> shared_before = Names("/dev/shm");
  const std::set<std::string> tmp_before = Names("/tmp");
  const int memory_files_before = CountMemoryFiles();
  std::vector<Process> processes;
  std::string state_dir, test_dir;
  {
    REQUIRE_OK_AND_ASSIGN(
        const auto cluster,
        TestCluster::Start({.nodes = 2, .agents_per_node = 2}));
    test_dir = cluster->dir();
    processes.push_back(cluster->processes().coordinator());
    for (const auto& agent : cluster->processes().agents()) {
      processes.push_back(agent.process);
    }
    const v1::ModelSpec model = PatternedModel("policy", 64);
    v1::RegisterModelRequest request;
    *request.mutable_model() = model;
    REQUIRE_OK(cluster->client().RegisterModel(request));
    v1::RegisterPlacementRequest placement;
    placement.set_model("policy");
    placement.set_placement("trainer");
    *placement.mutable_mesh() =
        MeshOf({{"data", 1}, {"tensor", 4}}, cluster->AgentNames({0, 1, 2, 3}));
    *placement.mutable_layout() = RowLayout();
    placement.set_storage(v1::STORAGE_LENT);
    REQUIRE_OK(cluster->client().RegisterPlacement(placement));
    placement.set_placement("rollout");
    *placement.mutable_layout() = ServingLayout();
    placement.set_storage(v1::STORAGE_ARENA);
    REQUIRE_OK(cluster->client().RegisterPlacement(placement));
    REQUIRE_OK_AND_ASSIGN(
        const auto trainer,
        PatternedTrainer::Start(*cluster, model, "trainer", {0, 1, 2, 3}));
    REQUIRE_OK(trainer->WriteNextStep());
    v1::SyncRequest sync;
    sync.set_model("policy");
    sync.set_source("trainer");
    sync.add_destinations("rollout");
    REQUIRE_OK(cluster->client().Sync(sync));
    // One killed, the others stopped in order.
    REQUIRE_OK(cluster->KillAgent(3));
    REQUIRE_OK(cluster->processes().Stop());
    const std::set<std::string> left = Names(cluster->processes().dir());
    for (const std::string& name : left) {
      CAPTURE(name);
      const bool is_state =
          name == "coordinator" || absl::EndsWith(name, ".log");
      CHECK(is_state);
    }
  }
  for (const Process& process : processes) {
    CHECK_FALSE(local_cluster::IsAlive(process));
  }
  CHECK(Names("/dev/shm") == shared_before);
  CHECK(CountMemoryFiles() == memory_files_before);
  // Other tests may run beside this one: only our own names count.
  for (const std::string& name : Names("/tmp")) {
    if (tmp_before.contains(name)) continue;
    CHECK_FALSE(absl::StrCat("/tmp/", name) == test_dir);
    CHECK_FALSE(absl::StartsWith(name, "sluice-"));
  }
}

}  // namespace
}  // namespace sluice::testing
