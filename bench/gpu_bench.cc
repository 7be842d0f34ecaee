#include "bench/gpu_bench.h"

#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/cuda/load_cuda_runtime.h"
#include "bench/gpu_cases.h"
#include "common/flags.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "tests/gpu/checks.h"
#include "tests/gpu/lender_process.h"
#include "tools/console/table.h"

namespace sluice::bench {
namespace {

constexpr int64_t kGranule = int64_t{4} << 20;

struct Settings {
  int64_t device = 0;
  int64_t bytes = int64_t{1} << 30;
  int64_t repeats = 5;
  std::string json;
  int64_t lender_socket = -1;
  int64_t elements = 0;
};

bool Reached(const GpuMeasurement& m) { return m.ratio >= m.goal; }

void Print(const std::vector<GpuMeasurement>& measurements) {
  using console::Align;
  console::Table table({{"what", Align::kLeft},
                        {"bytes", Align::kRight},
                        {"GB/s", Align::kRight},
                        {"beside GB/s", Align::kRight},
                        {"ratio", Align::kRight},
                        {"goal", Align::kRight},
                        {"", Align::kLeft},
                        {"beside", Align::kLeft}});
  for (const GpuMeasurement& m : measurements) {
    table.Add({m.name, absl::StrCat(m.bytes),
               absl::StrFormat("%.0f", m.gb_per_s),
               absl::StrFormat("%.0f", m.beside_gb_per_s),
               absl::StrFormat("%.2f", m.ratio),
               m.goal == 0 ? "" : absl::StrFormat(">= %.2f", m.goal),
               m.goal == 0  ? ""
               : Reached(m) ? "reached"
                            : "MISSED",
               m.beside});
  }
  std::cout << table.Print() << std::flush;
}

absl::Status WriteJson(const std::string& path,
                       const agent::cuda::DeviceInfo& info,
                       const std::vector<GpuMeasurement>& measurements) {
  nlohmann::json all = nlohmann::json::array();
  for (const GpuMeasurement& m : measurements) {
    all.push_back({{"name", m.name},
                   {"bytes", m.bytes},
                   {"gb_per_s", m.gb_per_s},
                   {"beside", m.beside},
                   {"beside_gb_per_s", m.beside_gb_per_s},
                   {"ratio", m.ratio},
                   {"goal", m.goal},
                   {"reached", Reached(m)}});
  }
  std::ofstream file(path);
  file << nlohmann::json{{"gpu", info.name}, {"measurements", all}}.dump(2)
       << "\n";
  file.close();
  if (file) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("cannot write ", path));
}

absl::Status Measure(const Settings& settings,
                     agent::cuda::CudaRuntime& runtime) {
  const int device = static_cast<int>(settings.device);
  SLUICE_ASSIGN_OR_RETURN(const auto info, runtime.Describe(device));
  SLUICE_ASSIGN_OR_RETURN(const auto lender,
                          gpu_tests::LenderProcess::Start(
                              "gpu_bench", settings.device, settings.bytes));
  GpuBenchOptions options;
  options.runtime = &runtime;
  options.device = device;
  options.bytes = settings.bytes;
  options.repeats = settings.repeats;
  options.lender_socket = lender->socket();
  SLUICE_ASSIGN_OR_RETURN(const std::vector<GpuMeasurement> measurements,
                          RunGpuCases(options));
  SLUICE_RETURN_IF_ERROR(lender->Finish());
  std::cout << "GPU " << device << ": " << info.name << "; GB/s are bytes read "
            << "plus written; all data verified\n";
  Print(measurements);
  if (settings.json.empty()) return absl::OkStatus();
  return WriteJson(settings.json, info, measurements);
}

absl::StatusOr<Flags::Action> Parse(int argc, char** argv, Settings& settings) {
  Flags flags("gpu_bench",
              "Measures kernels and copies of this machine's GPU.");
  flags.Add("device", &settings.device, "which GPU", 0, 1023);
  flags.AddBytes("bytes", &settings.bytes,
                 "of the large copy; a multiple of 4 MiB");
  flags.Add("repeats", &settings.repeats, "rounds; medians are printed", 1,
            1000);
  flags.Add("json", &settings.json, "file for a summary");
  flags.Add("lender-socket", &settings.lender_socket,
            "serve as the second process; used by this program itself");
  flags.Add("elements", &settings.elements, "bytes that process lends", 0);
  SLUICE_ASSIGN_OR_RETURN(const Flags::Action action, flags.Parse(argc, argv));
  if (settings.bytes < kGranule || settings.bytes % kGranule != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--bytes=", settings.bytes, ": expected a multiple of ", kGranule));
  }
  return action;
}

}  // namespace

int GpuBenchMain(int argc, char** argv) {
  Settings settings;
  const auto complain = [](const absl::Status& status, const char* what) {
    std::cerr << "gpu_bench: " << what << status.message() << std::endl;
  };
  const auto action = Parse(argc, argv, settings);
  if (!action.ok()) {
    complain(action.status(), "");
    return 2;
  }
  if (*action == Flags::Action::kExit) return 0;
  const auto runtime = agent::cuda::LoadCudaRuntime();
  if (!runtime.ok()) {
    complain(runtime.status(), "no GPU, nothing was measured: ");
    return 2;
  }
  const absl::Status status =
      settings.lender_socket >= 0
          ? gpu_tests::RunLender({.runtime = runtime->get(),
                                  .device = static_cast<int>(settings.device),
                                  .elements = settings.elements},
                                 static_cast<int>(settings.lender_socket))
          : Measure(settings, **runtime);
  if (status.ok()) return 0;
  complain(status, "");
  return 1;
}

}  // namespace sluice::bench
