// The agent daemon: owns the memory of one device, moves what the coordinator
// plans, serves the workers of its machine. See --help.

#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/agent_device.h"
#include "agent/cuda/load_cuda_runtime.h"
#include "agent/nccl/nccl_library.h"
#include "agent/server.h"
#include "agent/transfer_executor.h"
#include "common/daemon.h"
#include "common/flags.h"
#include "common/grpc_setup.h"
#include "common/logging.h"
#include "common/program.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// From the signal to the end; the rest of 10 s is the process's own end.
constexpr absl::Duration kDrainTimeout = absl::Seconds(6);

struct Settings {
  AgentServer::Options server;
  TransferExecutorOptions executor;
  int64_t worker_threads = 2;
  std::string port_file;
  LogOptions log;
};

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "localhost";
}

void AddGpuFlags(Flags& flags, AgentServer::Options& server) {
  flags.Add("device", &server.device,
            "whose memory it serves: \"host\", \"cuda\" or \"cuda:N\"; "
            "without this, SLUICE_DEVICE");
  flags.Add("gpu-blocks", &server.gpu_blocks,
            "blocks of threads that a copy may use of a GPU; 0 is one for each "
            "multiprocessor",
            0, 1 << 20);
  flags.Add("second-copy", &server.second_copy,
            "where the second copy of a placement lies: \"device\", or "
            "\"pinned\" memory of the host beside a GPU");
  flags.Add("pin-lent", &server.pin_lent,
            "pins memory of the host that workers lend for placements, so that "
            "the GPU copies it without a detour");
  flags.Add("nccl-library", &server.nccl.library.path,
            "NCCL's file; without this and the next, SLUICE_NCCL_LIBRARY");
  flags.Add("nccl-search", &server.nccl.library.search,
            "folder with libnccl.so.2, or Python's site-packages, before the "
            "system's; without this and the last, SLUICE_NCCL_SEARCH");
  flags.Add("nccl-connect-timeout", &server.nccl.communicators.connect_timeout,
            "how long members of a group of GPUs may take to make it",
            absl::Milliseconds(1));
  flags.Add("nccl-abort-timeout", &server.nccl.communicators.abort_timeout,
            "how long NCCL may take to end what failed; then the agent exits "
            "with code 75, to be started again",
            absl::Milliseconds(1));
}

void AddFlags(Flags& flags, Settings& settings) {
  AgentServer::Options& server = settings.server;
  flags.Add("name", &server.name, "unique in the cluster; required");
  flags.Add("node", &server.node, "agents of one node share memory");
  flags.Add("coordinator", &server.coordinator,
            "HOST:PORT of the coordinator; required");
  flags.Add("listen", &server.listen,
            "HOST:PORT to serve on; port 0 takes a free one");
  flags.Add("advertise", &server.advertise,
            "HOST:PORT the coordinator dials, if not the one listened on");
  flags.Add("insecure", &server.insecure,
            "allow an address beyond loopback without encryption");
  flags.Add("port-file", &settings.port_file,
            "file to write the port to, once serving");
  flags.Add("socket-dir", &server.socket_dir,
            "folder of the Unix sockets; made with mode 0700");
  AddGpuFlags(flags, server);
  flags.AddBytes("memory", &server.memory_bytes,
                 "memory for arenas and samples");
  flags.AddBytes("staging", &server.staging_bytes,
                 "memory for staging between nodes");
  flags.Add("network-devices", &settings.executor.network.net_devices,
            "devices between nodes, as in UCX_NET_DEVICES; empty takes \"lo\" "
            "where --listen is loopback, else the first that is not");
  flags.Add("network-transports", &settings.executor.network.transports,
            "transports between nodes, as in UCX_TLS");
  flags.Add("worker-threads", &settings.worker_threads,
            "threads that copy, pack and digest", 1, 1024);
  flags.Add("log-file", &settings.log.file, "appended to; empty is stderr");
  flags.AddParsed(
      "log-level", "info",
      [&settings](absl::string_view text) {
        SLUICE_ASSIGN_OR_RETURN(settings.log.level, ParseLogLevel(text));
        return absl::OkStatus();
      },
      "debug, info, warn, error or off");
  flags.AddParsed(
      "log-format", "text",
      [&settings](absl::string_view text) {
        SLUICE_ASSIGN_OR_RETURN(settings.log.format, ParseLogFormat(text));
        return absl::OkStatus();
      },
      "text or json");
}

AgentServer::ExecutorFactory ExecutorOf(const Settings& settings) {
  TransferExecutorOptions options = settings.executor;
  options.worker_threads = static_cast<int>(settings.worker_threads);
  // An agent that only this machine can reach has its peers here too.
  if (options.network.net_devices.empty() &&
      CheckListenAddress(settings.server.listen, /*insecure=*/false).ok()) {
    options.network.net_devices = "lo";
  }
  return [options](AgentServer::ExecutorDeps deps) mutable {
    options.mover = &deps.device.mover();
    options.lanes = deps.lanes;
    return MakeTransferExecutor(options, std::move(deps.callbacks), deps.peers,
                                deps.clock);
  };
}

absl::Status Run(int argc, char** argv) {
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<ShutdownSignal> signal,
                          ShutdownSignal::Create());
  Settings settings;
  settings.server.node = HostName();
  settings.server.device = AgentDevice::NameFromEnvironment();
  settings.server.load_cuda = &cuda::LoadCudaRuntime;
  settings.server.socket_dir = absl::StrCat("/tmp/sluice-", geteuid());
  Flags flags("agent", "Serves the memory of one device to a Sluice cluster.");
  AddFlags(flags, settings);
  SLUICE_ASSIGN_OR_RETURN(const Flags::Action action, flags.Parse(argc, argv));
  if (action == Flags::Action::kExit) return absl::OkStatus();
  NcclLibraryOptions& nccl = settings.server.nccl.library;
  if (nccl.path.empty() && nccl.search.empty()) {
    nccl = NcclLibraryOptions::FromEnvironment();
  }
  SLUICE_RETURN_IF_ERROR(settings.server.Validate());
  settings.log.name = settings.server.name;
  SLUICE_RETURN_IF_ERROR(InitLogging(settings.log));
  SetUpGrpc();

  SLUICE_ASSIGN_OR_RETURN(
      const std::unique_ptr<AgentServer> server,
      AgentServer::Start(settings.server, ExecutorOf(settings)));
  if (!settings.port_file.empty()) {
    SLUICE_RETURN_IF_ERROR(WriteFileAtomically(
        settings.port_file, absl::StrCat(server->port(), "\n")));
  }
  std::cout << "listening on "
            << WithPort(settings.server.listen, server->port()) << std::endl;
  LogInfo("agent started", {{"port", server->port()},
                            {"socket", server->worker_socket()},
                            {"incarnation", server->incarnation()},
                            {"memory_bytes", settings.server.memory_bytes}});

  const int number = signal->Wait();
  LogInfo("draining", {{"signal", number}});
  const absl::Status drained = server->Drain(kDrainTimeout);
  if (!drained.ok()) LogWarn("not drained", {{"status", drained}});
  server->Shutdown();
  if (!settings.port_file.empty()) unlink(settings.port_file.c_str());
  LogInfo("agent ended");
  return absl::OkStatus();
}

}  // namespace
}  // namespace sluice::agent

SLUICE_PROGRAM(Agent) {
  const absl::Status status = sluice::agent::Run(argc, argv);
  if (status.ok()) return 0;
  std::cerr << "agent: " << status.message() << std::endl;
  return absl::IsInvalidArgument(status) ? 2 : 1;
}
