#include "tests/gpu/gpu_tests.h"

#include <chrono>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/load_cuda_runtime.h"
#include "agent/nccl/nccl_library.h"
#include "common/flags.h"
#include "common/status_macros.h"
#include "tests/gpu/agent_checks.h"
#include "tests/gpu/checks.h"
#include "tests/gpu/lender_process.h"
#include "tests/gpu/quickstart_check.h"
#include "tests/gpu/report.h"

namespace sluice::gpu_tests {
namespace {

using agent::cuda::CudaRuntime;

struct Options {
  int64_t device = 0;
  int64_t seed = 1;
  int64_t elements = int64_t{8} << 20;
  bool kernels_only = false;
  std::string only;
  std::string json;
  // Of tests/gpu/run, which starts each row as a process of its own.
  bool list = false;
  bool append = false;
  bool print = false;
  std::string record;
  std::string result = "failed";
  std::string why;
  int64_t lender_socket = -1;
};

// One row of the table.
struct Task {
  std::string name;
  std::function<absl::Status()> run;
  bool kernels = false;
  bool nccl = false;
};

Settings SettingsOf(const Options& options, CudaRuntime& runtime) {
  return {.runtime = &runtime,
          .device = static_cast<int>(options.device),
          .seed = static_cast<uint64_t>(options.seed),
          .elements = options.elements};
}

absl::Status CheckProcesses(const Options& options, CudaRuntime& runtime) {
  SLUICE_ASSIGN_OR_RETURN(
      const auto lender,
      LenderProcess::Start("gpu_tests", options.device, options.elements));
  SLUICE_RETURN_IF_ERROR(
      RunBorrower(SettingsOf(options, runtime), lender->socket()));
  return lender->Finish();
}

// A lender is killed while its memory is mapped: what was mapped is let go, its
// handle is refused from then on, and the GPU still serves this process.
absl::Status CheckKilledLender(const Options& options, CudaRuntime& runtime) {
  const Settings settings = SettingsOf(options, runtime);
  SLUICE_ASSIGN_OR_RETURN(const auto device, agent::cuda::CudaDevice::Open(
                                                 &runtime, settings.device));
  agent::cuda::SharedRange range;
  {
    SLUICE_ASSIGN_OR_RETURN(
        auto lender,
        LenderProcess::Start("gpu_tests", options.device, options.elements));
    SLUICE_ASSIGN_OR_RETURN(
        range, BorrowFilled(settings, lender->socket(), /*value=*/0x11));
    SLUICE_ASSIGN_OR_RETURN(const auto memory, device->AdoptRange(range));
    lender.reset();  // by SIGKILL
  }
  // Which error a driver gives for it is nowhere said.
  if (device->AdoptRange(range).ok()) {
    return absl::InternalError(
        "the handle of a process that was killed was adopted again");
  }
  return CheckDevice(settings);
}

// All on this GPU; about 90 MB, large enough for many messages between nodes.
QuickstartSettings QuickstartOn(const Options& options) {
  QuickstartSettings settings;
  settings.device = absl::StrCat("cuda:", options.device);
  settings.checkpoint.seed = static_cast<uint64_t>(options.seed);
  settings.checkpoint.layers = 4;
  settings.checkpoint.hidden = 768;
  settings.checkpoint.intermediate = 3072;
  settings.checkpoint.vocab = 16000;
  return settings;
}

std::vector<Task> AllTasks(const Options& options, CudaRuntime& runtime) {
  std::vector<Task> tasks;
  for (const Check& check : LocalChecks()) {
    tasks.push_back(
        {check.name,
         [&, run = check.run] { return run(SettingsOf(options, runtime)); },
         check.kernels});
  }
  tasks.push_back({"memory and events between processes",
                   [&] { return CheckProcesses(options, runtime); }});
  tasks.push_back({"a lender that is killed",
                   [&] { return CheckKilledLender(options, runtime); }});
  AgentSettings agents;
  agents.runtime = &runtime;
  agents.device = static_cast<int>(options.device);
  constexpr struct {
    const char* name;
    absl::Status (*run)(const AgentSettings& settings);
  } kReductions[] = {
      {"agents: NCCL, one rank", &CheckOneRank},
      {"agents: NCCL, three ranks on this GPU", &CheckSharedGpu},
      {"agents: one is killed in a collective", &CheckKilledAgent},
      {"agents: a collective is aborted", &CheckAbortedGroup},
  };
  for (const auto& [name, run] : kReductions) {
    tasks.push_back({name, [agents, run = run] { return run(agents); },
                     /*kernels=*/false, /*nccl=*/true});
  }
  tasks.push_back({"the quickstart with --device cuda",
                   [&] { return CheckQuickstart(QuickstartOn(options)); }});
  return tasks;
}

// What the options choose: a check by its whole name, else all that have it.
absl::StatusOr<std::vector<Task>> Chosen(const Options& options,
                                         CudaRuntime& runtime) {
  std::vector<Task> chosen;
  for (Task& task : AllTasks(options, runtime)) {
    if (options.kernels_only && !task.kernels) continue;
    if (task.name == options.only) {
      chosen.clear();
      chosen.push_back(std::move(task));
      break;
    }
    if (absl::StrContains(task.name, options.only)) {
      chosen.push_back(std::move(task));
    }
  }
  if (!chosen.empty()) return chosen;
  return absl::InvalidArgumentError(
      absl::StrCat("--only=", options.only, " names no check"));
}

Row RunTask(const Task& task) {
  Row row;
  row.name = task.name;
  if (task.nccl) {
    // Agents look for it in the same way.
    const auto nccl =
        agent::NcclLibrary::Open(agent::NcclLibraryOptions::FromEnvironment());
    if (absl::IsNotFound(nccl.status())) {
      row.outcome = Outcome::kSkipped;
      row.why = std::string(nccl.status().message());
      return row;
    }
    if (nccl.ok()) {
      row.why =
          absl::StrCat("NCCL ", (*nccl)->VersionName(), ", ", (*nccl)->path());
    }
  }
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const absl::Status status = task.run();
  row.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (!status.ok()) {
    row.outcome = Outcome::kFailed;
    row.why = std::string(status.message());
  }
  return row;
}

// A file that cannot be written is said, and keeps nothing from being run.
bool Save(const Options& options, const Report& report) {
  if (options.json.empty()) return true;
  const absl::Status written = WriteReport(report, options.json);
  if (!written.ok()) std::cerr << "gpu_tests: " << written.message() << "\n";
  return written.ok();
}

// The file's report, or an empty one where there is none yet.
absl::StatusOr<Report> Before(const Options& options) {
  absl::StatusOr<Report> before = ReadReport(options.json);
  if (absl::IsNotFound(before.status())) return Report{};
  return before;
}

// Whether all that was run has passed or was skipped, or why nothing was run.
absl::StatusOr<bool> RunAll(const Options& options, CudaRuntime& runtime) {
  SLUICE_ASSIGN_OR_RETURN(const auto device,
                          agent::cuda::CudaDevice::Open(
                              &runtime, static_cast<int>(options.device)));
  SLUICE_ASSIGN_OR_RETURN(const std::vector<Task> tasks,
                          Chosen(options, runtime));
  if (options.list) {
    for (const Task& task : tasks) std::cout << task.name << "\n";
    std::cout << std::flush;
    return true;
  }
  Report report;
  if (options.append) {
    SLUICE_ASSIGN_OR_RETURN(report, Before(options));
  }
  const agent::cuda::DeviceInfo& info = device->info();
  report.gpu = absl::StrCat("GPU ", options.device, ": ", info.name);
  report.compute_capability = absl::StrCat(info.major, ".", info.minor);
  bool good = true;
  for (const Task& task : tasks) {
    // Stays, if this process does not come back.
    report.Set({task.name, Outcome::kFailed, "it did not end"});
    good = Save(options, report) && good;
    const Row row = RunTask(task);
    good = good && row.outcome != Outcome::kFailed;
    std::cout << Line(row) << std::endl;
    report.Set(row);
    good = Save(options, report) && good;
  }
  if (!options.append) std::cout << "\n" << report.Print() << std::flush;
  return good;
}

// A row that was not run here.
absl::Status Record(const Options& options) {
  Outcome outcome = Outcome::kFailed;
  if (options.result == "passed") outcome = Outcome::kPassed;
  if (options.result == "skipped") outcome = Outcome::kSkipped;
  SLUICE_ASSIGN_OR_RETURN(Report report, Before(options));
  const Row row{options.record, outcome, options.why};
  std::cout << Line(row) << std::endl;
  report.Set(row);
  return WriteReport(report, options.json);
}

absl::StatusOr<bool> PrintReport(const Options& options) {
  SLUICE_ASSIGN_OR_RETURN(const Report report, ReadReport(options.json));
  std::cout << report.Print() << std::flush;
  return report.Count(Outcome::kFailed) == 0;
}

void AddFlags(Flags& flags, Options& options) {
  flags.Add("device", &options.device, "which GPU", 0, 1023);
  flags.Add("seed", &options.seed, "of the random data", 0);
  flags.Add("elements", &options.elements, "of a large buffer", 1000,
            int64_t{1} << 28);
  flags.Add("kernels-only", &options.kernels_only,
            "only what is worth a run under compute-sanitizer");
  flags.Add("only", &options.only,
            "only the check of this name, or those whose name has this in it");
  flags.Add("json", &options.json,
            "file for a summary, written anew after each check");
  flags.Add("list", &options.list, "print the checks' names, run none");
  flags.Add("append", &options.append,
            "keep what the summary has; print no table");
  flags.Add("record", &options.record,
            "run nothing: add a row of this name to the summary");
  flags.Add("result", &options.result,
            "of that row: passed, failed or skipped");
  flags.Add("why", &options.why, "of that row");
  flags.Add("print", &options.print, "run nothing: print the summary's table");
  flags.Add("lender-socket", &options.lender_socket,
            "serve as the second process; used by this program itself");
}

absl::StatusOr<bool> Run(int argc, char** argv) {
  Options options;
  Flags flags("gpu_tests",
              "Checks kernels, arenas and hand-over on this machine's GPU.");
  AddFlags(flags, options);
  SLUICE_ASSIGN_OR_RETURN(const Flags::Action action, flags.Parse(argc, argv));
  if (action == Flags::Action::kExit) return true;
  const bool without_gpu = options.print || !options.record.empty();
  if ((without_gpu || options.append) && options.json.empty()) {
    return absl::InvalidArgumentError(
        "--append, --record and --print need --json");
  }
  if (options.print) return PrintReport(options);
  if (without_gpu) {
    SLUICE_RETURN_IF_ERROR(Record(options));
    return true;
  }
  const auto runtime = agent::cuda::LoadCudaRuntime();
  if (!runtime.ok()) {
    return absl::Status(runtime.status().code(),
                        absl::StrCat("no GPU, nothing was checked: ",
                                     runtime.status().message()));
  }
  if (options.lender_socket >= 0) {
    SLUICE_RETURN_IF_ERROR(RunLender(SettingsOf(options, **runtime),
                                     static_cast<int>(options.lender_socket)));
    return true;
  }
  return RunAll(options, **runtime);
}

}  // namespace

int GpuTestsMain(int argc, char** argv) {
  const absl::StatusOr<bool> good = Run(argc, argv);
  if (good.ok()) return *good ? 0 : 1;
  std::cerr << "gpu_tests: " << good.status().message() << std::endl;
  return 2;
}

}  // namespace sluice::gpu_tests
