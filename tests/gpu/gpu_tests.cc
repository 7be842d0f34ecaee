#include "tests/gpu/gpu_tests.h"

#include <chrono>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/cuda/load_cuda_runtime.h"
#include "common/flags.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "tests/gpu/agent_checks.h"
#include "tests/gpu/checks.h"
#include "tests/gpu/lender_process.h"
#include "tests/gpu/quickstart_check.h"
#include "tools/console/table.h"

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
  int64_t lender_socket = -1;
};

struct Result {
  std::string name;
  absl::Status status;
  double seconds = 0;
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
  const absl::Status again = device->AdoptRange(range).status();
  if (!absl::IsInvalidArgument(again)) {
    return absl::InternalError(absl::StrCat(
        "the handle of a process that was killed: expected INVALID_ARGUMENT, "
        "found ",
        again.ToString()));
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

std::vector<Result> RunChecks(const Options& options, CudaRuntime& runtime) {
  using Clock = std::chrono::steady_clock;
  std::vector<Result> results;
  const auto run = [&](const std::string& name, const auto& check) {
    if (!options.only.empty() && !absl::StrContains(name, options.only)) return;
    const auto start = Clock::now();
    absl::Status status = check();
    results.push_back(
        {name, std::move(status),
         std::chrono::duration<double>(Clock::now() - start).count()});
  };
  for (const Check& check : LocalChecks()) {
    if (options.kernels_only && !check.kernels) continue;
    run(check.name, [&] { return check.run(SettingsOf(options, runtime)); });
  }
  if (!options.kernels_only) {
    run("memory and events between processes",
        [&] { return CheckProcesses(options, runtime); });
    run("a lender that is killed",
        [&] { return CheckKilledLender(options, runtime); });
    AgentSettings agents;
    agents.runtime = &runtime;
    agents.device = static_cast<int>(options.device);
    run("agents: NCCL, one rank", [&] { return CheckOneRank(agents); });
    run("agents: NCCL, three ranks on this GPU",
        [&] { return CheckSharedGpu(agents); });
    run("agents: one is killed in a collective",
        [&] { return CheckKilledAgent(agents); });
    run("agents: a collective is aborted",
        [&] { return CheckAbortedGroup(agents); });
    run("the quickstart with --device cuda",
        [&] { return CheckQuickstart(QuickstartOn(options)); });
  }
  return results;
}

absl::Status WriteJson(const std::string& path,
                       const agent::cuda::DeviceInfo& info,
                       const std::vector<Result>& results) {
  nlohmann::json checks = nlohmann::json::array();
  int failed = 0;
  for (const Result& result : results) {
    if (!result.status.ok()) ++failed;
    checks.push_back({{"name", result.name},
                      {"passed", result.status.ok()},
                      {"message", std::string(result.status.message())},
                      {"seconds", result.seconds}});
  }
  const nlohmann::json summary = {
      {"gpu", info.name},
      {"compute_capability", absl::StrCat(info.major, ".", info.minor)},
      {"passed", static_cast<int>(results.size()) - failed},
      {"failed", failed},
      {"checks", checks}};
  std::ofstream file(path);
  file << summary.dump(2) << "\n";
  file.close();
  if (file) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("cannot write ", path));
}

// The number of failures, or why nothing was run.
absl::StatusOr<int> RunAll(const Options& options, CudaRuntime& runtime) {
  SLUICE_ASSIGN_OR_RETURN(const auto device,
                          agent::cuda::CudaDevice::Open(
                              &runtime, static_cast<int>(options.device)));
  const agent::cuda::DeviceInfo& info = device->info();
  const std::vector<Result> results = RunChecks(options, runtime);
  if (results.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--only=", options.only, " names no check"));
  }
  using console::Align;
  console::Table table({{"check", Align::kLeft},
                        {"result", Align::kLeft},
                        {"seconds", Align::kRight},
                        {"why", Align::kLeft}});
  int failed = 0;
  for (const Result& result : results) {
    if (!result.status.ok()) ++failed;
    table.Add({result.name, result.status.ok() ? "passed" : "FAILED",
               absl::StrFormat("%.2f", result.seconds),
               std::string(result.status.message())});
  }
  std::cout << "GPU " << options.device << ": " << info.name
            << ", compute capability " << info.major << "." << info.minor
            << "\n"
            << table.Print() << results.size() - static_cast<size_t>(failed)
            << " passed, " << failed << " failed" << std::endl;
  if (!options.json.empty()) {
    SLUICE_RETURN_IF_ERROR(WriteJson(options.json, info, results));
  }
  return failed;
}

absl::StatusOr<int> Run(int argc, char** argv) {
  Options options;
  Flags flags("gpu_tests",
              "Checks kernels, arenas and hand-over on this machine's GPU.");
  flags.Add("device", &options.device, "which GPU", 0, 1023);
  flags.Add("seed", &options.seed, "of the random data", 0);
  flags.Add("elements", &options.elements, "of a large buffer", 1000,
            int64_t{1} << 28);
  flags.Add("kernels-only", &options.kernels_only,
            "only what is worth a run under compute-sanitizer");
  flags.Add("only", &options.only, "only checks whose name has this in it");
  flags.Add("json", &options.json, "file for a summary");
  flags.Add("lender-socket", &options.lender_socket,
            "serve as the second process; used by this program itself");
  SLUICE_ASSIGN_OR_RETURN(const Flags::Action action, flags.Parse(argc, argv));
  if (action == Flags::Action::kExit) return 0;
  const auto runtime = agent::cuda::LoadCudaRuntime();
  if (!runtime.ok()) {
    return absl::Status(runtime.status().code(),
                        absl::StrCat("no GPU, nothing was checked: ",
                                     runtime.status().message()));
  }
  if (options.lender_socket >= 0) {
    SLUICE_RETURN_IF_ERROR(RunLender(SettingsOf(options, **runtime),
                                     static_cast<int>(options.lender_socket)));
    return 0;
  }
  return RunAll(options, **runtime);
}

}  // namespace

int GpuTestsMain(int argc, char** argv) {
  const absl::StatusOr<int> failed = Run(argc, argv);
  if (failed.ok()) return *failed == 0 ? 0 : 1;
  std::cerr << "gpu_tests: " << failed.status().message() << std::endl;
  return 2;
}

}  // namespace sluice::gpu_tests
