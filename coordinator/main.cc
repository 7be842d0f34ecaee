// The coordinator daemon.

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/daemon.h"
#include "common/flags.h"
#include "common/grpc_setup.h"
#include "common/logging.h"
#include "common/program.h"
#include "common/status_macros.h"
#include "coordinator/core/core_options.h"
#include "coordinator/core_functions.h"
#include "coordinator/dispatch/grpc_agent_client.h"
#include "coordinator/server.h"
#include "coordinator/store/sqlite_store.h"

namespace sluice::coordinator {
namespace {

constexpr char kProgram[] = "sluice-coordinator";
constexpr int kUsageError = 2;

struct DaemonOptions {
  Server::Options server;
  CoreOptions core;
  std::string state_dir = "sluice-state";
  std::string port_file;
  LogOptions log;
};

absl::StatusOr<Flags::Action> ParseOptions(int argc, char** argv,
                                           DaemonOptions& options) {
  options.log.name = "coordinator";
  Flags flags(kProgram,
              "Knows which agent holds which tensor, plans every move and "
              "orders the agents to carry it out.");
  flags.Add("listen", &options.server.listen,
            "HOST:PORT to serve on; port 0 takes a free one");
  flags.Add("port-file", &options.port_file,
            "file to write the address to that it listens on");
  flags.Add("insecure", &options.server.insecure,
            "allow --listen on an address that other machines can reach; "
            "nothing is encrypted");
  flags.Add("state-dir", &options.state_dir,
            "directory for what must survive a restart; one coordinator each");
  flags.Add("lease", &options.core.lease,
            "an agent that does not beat for so long is lost", absl::Seconds(1),
            absl::Seconds(300));
  flags.Add("heartbeat-interval", &options.core.heartbeat_interval,
            "how often agents beat", absl::Milliseconds(10),
            absl::Seconds(100));
  flags.Add("suspect-grace", &options.core.suspect_grace,
            "an agent whose stream is broken for so long ends its operations",
            absl::ZeroDuration(), absl::Seconds(300));
  flags.AddParsed(
      "log-level", "info",
      [&options](absl::string_view text) -> absl::Status {
        SLUICE_ASSIGN_OR_RETURN(options.log.level, ParseLogLevel(text));
        return absl::OkStatus();
      },
      "debug, info, warn, error or off");
  flags.AddParsed(
      "log-format", "text",
      [&options](absl::string_view text) -> absl::Status {
        SLUICE_ASSIGN_OR_RETURN(options.log.format, ParseLogFormat(text));
        return absl::OkStatus();
      },
      "text or json");
  flags.Add("log-file", &options.log.file,
            "file to append the log to instead of stderr");
  SLUICE_ASSIGN_OR_RETURN(const Flags::Action action, flags.Parse(argc, argv));
  SLUICE_RETURN_IF_ERROR(options.core.Validate());
  return action;
}

absl::StatusOr<std::unique_ptr<Server>> StartServer(
    const DaemonOptions& options, ShutdownSignal& signal,
    std::atomic<bool>& fatal) {
  Server::Parts parts;
  parts.clock = std::make_unique<SystemClock>();
  SLUICE_ASSIGN_OR_RETURN(parts.store, SqliteStore::Open(options.state_dir));
  parts.agents = std::make_unique<GrpcAgentClientFactory>();
  parts.core = MakeCore(options.core);
  parts.plan = &PlanAndValidate;
  parts.on_fatal = [&signal, &fatal](const absl::Status&) {
    fatal = true;
    signal.Notify();
  };
  Server::Options server = options.server;
  server.tick_interval = options.core.tick_interval;
  return Server::Start(server, std::move(parts));
}

absl::Status Run(const DaemonOptions& options, ShutdownSignal& signal) {
  SLUICE_RETURN_IF_ERROR(InitLogging(options.log));
  SetUpGrpc();
  std::atomic<bool> fatal = false;
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<Server> server,
                          StartServer(options, signal, fatal));
  if (!options.port_file.empty()) {
    SLUICE_RETURN_IF_ERROR(WriteFileAtomically(
        options.port_file, absl::StrCat(server->address(), "\n")));
  }
  std::printf("listening on %s\n", server->address().c_str());
  std::fflush(stdout);
  const int number = signal.Wait();
  if (fatal) return absl::InternalError("ended by a fatal error, see the log");
  LogInfo("signal", {{"number", number}});
  server->Shutdown();
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  // Before any thread starts.
  const absl::StatusOr<std::unique_ptr<ShutdownSignal>> signal =
      ShutdownSignal::Create();
  DaemonOptions options;
  const absl::StatusOr<Flags::Action> action =
      ParseOptions(argc, argv, options);
  if (!action.ok()) {
    std::fprintf(stderr, "%s: %s\n", kProgram,
                 std::string(action.status().message()).c_str());
    return kUsageError;
  }
  if (*action == Flags::Action::kExit) return EXIT_SUCCESS;
  const absl::Status status =
      signal.ok() ? Run(options, **signal) : signal.status();
  if (status.ok()) return EXIT_SUCCESS;
  std::fprintf(stderr, "%s: %s\n", kProgram,
               std::string(status.message()).c_str());
  return EXIT_FAILURE;
}

}  // namespace
}  // namespace sluice::coordinator

SLUICE_PROGRAM(Coordinator) { return sluice::coordinator::Main(argc, argv); }
