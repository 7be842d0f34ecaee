// quickstart: starts a cluster on this machine, syncs a real checkpoint between
// two layouts, redistributes a rollout batch, checks every byte and says how
// fast it was.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "common/logging.h"
#include "common/program.h"
#include "tools/console/exit_code.h"
#include "tools/quickstart/interrupt.h"
#include "tools/quickstart/options.h"
#include "tools/quickstart/report.h"
#include "tools/quickstart/run.h"

namespace {

using sluice::quickstart::Options;
using sluice::quickstart::Report;

void DefineOptions(CLI::App& app, Options& options) {
  app.add_option("--checkpoint", options.checkpoint,
                 "Hugging Face style directory (default: one is generated)");
  app.add_option("--layers", options.layers, "Layers of the generated one")
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Seed of all generated values")
      ->capture_default_str();
  app.add_option("--nodes", options.nodes, "Number of nodes")
      ->capture_default_str();
  app.add_option("--agents-per-node", options.agents_per_node,
                 "Agents of each node")
      ->capture_default_str();
  app.add_option("--trainer", options.trainer_mesh,
                 "Trainer's mesh (default for 8 agents: "
                 "pipe=2,data=2,tensor=2)");
  app.add_option("--rollout", options.rollout_mesh,
                 "Rollout's mesh (default for 8 agents: data=2,tensor=4)");
  app.add_option("--samples", options.samples, "Samples of the rollout batch")
      ->capture_default_str();
  app.add_option("--device", options.device,
                 "Whose memory agents and trainer use: \"host\", \"cuda:N\" "
                 "for all of them, or \"cuda\" to deal them to the GPUs")
      ->capture_default_str();
  app.add_option("--json", options.json_file, "Write what was measured there");
  app.add_flag("--keep", options.keep, "Leave the cluster up");
  app.add_flag("--quiet", options.quiet, "Show no progress");
  app.add_option("--state-dir", options.state_dir,
                 "Where everything is kept (default: " +
                     sluice::quickstart::DefaultStateDir() + ")");
  app.add_option("--coordinator-binary", options.coordinator_binary,
                 "Default: found beside this program");
  app.add_option("--agent-binary", options.agent_binary,
                 "Default: found beside this program");
  app.add_option("--worker-binary", options.worker_binary,
                 "Default: found beside this program");
}

bool WriteJson(const Report& report, const std::string& path) {
  if (path.empty()) return true;
  std::ofstream file(path, std::ios::trunc);
  file << PrintJson(report);
  file.close();
  if (!file)
    std::fprintf(stderr, "quickstart: cannot write %s\n", path.c_str());
  return static_cast<bool>(file);
}

}  // namespace

SLUICE_PROGRAM(Quickstart) {
  namespace console = sluice::console;
  Options options;
  CLI::App app{
      "Runs Sluice end to end on this machine and checks every byte.\n\n"
      "Example: quickstart --nodes 2 --agents-per-node 3 --trainer "
      "pipe=3,tensor=2 --rollout data=2,tensor=3 --json out.json"};
  DefineOptions(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? console::kExitOk : console::kExitUsage;
  }
  sluice::LogOptions log;
  log.name = "quickstart";
  log.level = sluice::LogLevel::kWarn;
  sluice::InitLogging(log).IgnoreError();
  sluice::quickstart::Interrupt interrupt;
  Report report;
  const absl::Status status = Run(options, interrupt, report);
  if (!report.operations.empty()) {
    std::printf("\n%s", PrintTable(report).c_str());
  }
  const bool written = WriteJson(report, options.json_file);
  if (interrupt.came()) return console::kExitInterrupted;
  if (!status.ok()) {
    std::fprintf(stderr, "quickstart: %s: %s\n",
                 absl::StatusCodeToString(status.code()).c_str(),
                 std::string(status.message()).c_str());
    return absl::IsInvalidArgument(status) ? console::kExitUsage
                                           : console::kExitFailed;
  }
  std::printf("%s\n", report.verified() ? "Everything verified."
                                        : "NOT everything verified.");
  return written && report.verified() ? console::kExitOk : console::kExitFailed;
}
