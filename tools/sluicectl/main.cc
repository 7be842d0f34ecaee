// sluicectl: looks at and drives a Sluice cluster.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/logging.h"
#include "common/program.h"
#include "tools/console/exit_code.h"
#include "tools/sluicectl/context.h"
#include "tools/sluicectl/offline_plans.h"

namespace {

constexpr char kAbout[] =
    "Looks at and drives a Sluice cluster.\n\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 coordinator or agent "
    "unreachable,\n4 not found, 5 conflict or wrong state, 6 denied, 7 "
    "timeout, 130 interrupted.";
constexpr char kExamples[] =
    "Examples:\n"
    "  sluicectl --state-dir /tmp/sluice up --nodes 2 --agents-per-node 4\n"
    "  sluicectl --state-dir /tmp/sluice status\n"
    "  sluicectl --coordinator host:7070 --json plan sync policy trainer "
    "rollout\n"
    "  sluicectl --state-dir /tmp/sluice down\n";

void DefineGlobals(CLI::App& app, sluice::ctl::Globals& globals) {
  app.add_option("-c,--coordinator", globals.coordinator,
                 "host:port of the coordinator")
      ->envname("SLUICE_COORDINATOR");
  app.add_option("-d,--state-dir", globals.state_dir,
                 "State directory of a local cluster")
      ->envname("SLUICE_STATE_DIR");
  app.add_flag("--json", globals.json, "Answers in JSON");
  app.add_flag("-q,--quiet", globals.quiet, "No progress on stderr");
  app.add_option("--timeout", globals.timeout_seconds,
                 "Seconds a short call may take")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
}

// What nobody asked for may be what is missing, mistyped: the parser tells of
// either, and of what is missing first.
void PrintUnknown(const CLI::App& app) {
  const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
  if (unknown.empty()) return;
  std::string words;
  for (const std::string& word : unknown) words += " " + word;
  std::fprintf(stderr, "Not understood:%s\n", words.c_str());
}

}  // namespace

SLUICE_PROGRAM(Sluicectl) {
  using sluice::console::kExitUsage;
  CLI::App app{kAbout, "sluicectl"};
  app.footer(kExamples);
  app.require_subcommand(1);
  // Global options may stand after the command too.
  app.fallthrough();
  sluice::ctl::Context context;
  sluice::ctl::Action chosen;
  DefineGlobals(app, context.globals());
  sluice::ctl::AddClusterCommands(app, chosen);
  sluice::ctl::AddStatusCommands(app, chosen);
  CLI::App* plan = app.add_subcommand(
      "plan", "Plans without moving anything; shows the certificate.");
  plan->require_subcommand(1);
  sluice::ctl::AddModelCommands(app, chosen);
  sluice::ctl::AddSampleCommands(app, chosen);
  sluice::ctl::AddTensorCommands(app, chosen);
  sluice::ctl::AddOfflineCommands(app, chosen);
  sluice::ctl::AddTopologyCommands(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::RequiredError& error) {
    PrintUnknown(app);
    app.exit(error);
    return kExitUsage;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? sluice::console::kExitOk : kExitUsage;
  }
  sluice::LogOptions log;
  log.name = "sluicectl";
  log.level = sluice::LogLevel::kWarn;
  sluice::InitLogging(log).IgnoreError();
  const absl::Status status = chosen(context);
  if (!status.ok()) {
    std::fprintf(stderr, "sluicectl: %s: %s\n",
                 absl::StatusCodeToString(status.code()).c_str(),
                 std::string(status.message()).c_str());
    if (const std::string hint = context.Hint(status); !hint.empty()) {
      std::fprintf(stderr, "sluicectl: %s\n", hint.c_str());
    }
  }
  if (absl::IsCancelled(status)) return sluice::console::kExitInterrupted;
  return sluice::console::ExitCode(status);
}
