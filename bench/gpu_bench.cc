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
  int64_t blocks = 0;
  std::string json;
  int64_t lender_socket = -1;
  int64_t elements = 0;
};

// What was measured so far, and whether all of it went well.
struct Outcome {
  std::string gpu;
  std::vector<GpuMeasurement> rows;
  std::string stopped;  // why the other cases were not run
  bool failed = false;
};

bool Reached(const GpuMeasurement& m) {
  return m.status.ok() && m.ratio >= m.goal;
}

std::string Verdict(const GpuMeasurement& m) {
  if (!m.status.ok()) return "FAILED";
  if (m.goal == 0) return "";
  return Reached(m) ? "reached" : "MISSED";
}

std::string Blocks(const GpuMeasurement& m) {
  return m.blocks == 0 ? "" : absl::StrCat(m.blocks);
}

// One row, when it ends.
void PrintLine(const GpuMeasurement& m) {
  std::cout << absl::StrFormat("%-54s %2s  ", m.name, Blocks(m));
  if (m.status.ok()) {
    std::cout << absl::StrFormat("%6.0f GB/s, %.2f of a %s  %s", m.gb_per_s,
                                 m.ratio, m.beside, Verdict(m));
  } else {
    std::cout << "FAILED: " << m.status.message();
  }
  std::cout << std::endl;
}

void Print(const std::vector<GpuMeasurement>& measurements) {
  using console::Align;
  console::Table table({{"what", Align::kLeft},
                        {"blocks", Align::kRight},
                        {"bytes", Align::kRight},
                        {"GB/s", Align::kRight},
                        {"beside GB/s", Align::kRight},
                        {"ratio", Align::kRight},
                        {"goal", Align::kRight},
                        {"", Align::kLeft},
                        {"beside", Align::kLeft}});
  for (const GpuMeasurement& m : measurements) {
    if (!m.status.ok()) {
      table.Add({m.name, Blocks(m), "", "", "", "", "", Verdict(m),
                 std::string(m.status.message())});
      continue;
    }
    table.Add({m.name, Blocks(m), absl::StrCat(m.bytes),
               absl::StrFormat("%.0f", m.gb_per_s),
               absl::StrFormat("%.0f", m.beside_gb_per_s),
               absl::StrFormat("%.2f", m.ratio),
               m.goal == 0 ? "" : absl::StrFormat(">= %.2f", m.goal),
               Verdict(m), m.beside});
  }
  std::cout << "\n" << table.Print() << std::flush;
}

absl::Status WriteJson(const std::string& path, const Outcome& outcome) {
  if (path.empty()) return absl::OkStatus();
  nlohmann::json all = nlohmann::json::array();
  for (const GpuMeasurement& m : outcome.rows) {
    all.push_back({{"name", m.name},
                   {"blocks", m.blocks},
                   {"measured", m.status.ok()},
                   {"message", std::string(m.status.message())},
                   {"bytes", m.bytes},
                   {"gb_per_s", m.gb_per_s},
                   {"beside", m.beside},
                   {"beside_gb_per_s", m.beside_gb_per_s},
                   {"ratio", m.ratio},
                   {"goal", m.goal},
                   {"reached", Reached(m)}});
  }
  std::ofstream file(path);
  file << nlohmann::json{{"gpu", outcome.gpu},
                         {"stopped", outcome.stopped},
                         {"measurements", all}}
              .dump(2)
       << "\n";
  file.close();
  if (file) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("cannot write ", path));
}

void Complain(const absl::Status& status, const char* what = "") {
  std::cerr << "gpu_bench: " << what << status.message() << std::endl;
}

// Errors: the GPU cannot be used, nothing was measured.
absl::StatusOr<Outcome> Measure(const Settings& settings,
                                agent::cuda::CudaRuntime& runtime) {
  Outcome outcome;
  GpuBenchOptions options;
  options.runtime = &runtime;
  options.device = static_cast<int>(settings.device);
  options.bytes = settings.bytes;
  options.repeats = settings.repeats;
  if (settings.blocks > 0) options.blocks = {settings.blocks};
  SLUICE_ASSIGN_OR_RETURN(const auto info, runtime.Describe(options.device));
  outcome.gpu = info.name;
  std::unique_ptr<gpu_tests::LenderProcess> lender;
  options.lender = [&]() -> absl::StatusOr<int> {
    SLUICE_ASSIGN_OR_RETURN(
        lender, gpu_tests::LenderProcess::Start("gpu_bench", settings.device,
                                                settings.bytes));
    return lender->socket();
  };
  std::cout << "GPU " << options.device << ": " << info.name
            << "; GB/s are bytes read plus written, of verified data; blocks "
               "are those of a multiprocessor"
            << std::endl;
  const absl::Status ran = RunGpuCases(options, [&](const GpuMeasurement& m) {
    PrintLine(m);
    outcome.failed |= !m.status.ok();
    outcome.rows.push_back(m);
    const absl::Status written = WriteJson(settings.json, outcome);
    outcome.failed |= !written.ok();
    if (!written.ok()) Complain(written);
  });
  if (!outcome.rows.empty()) Print(outcome.rows);
  if (!ran.ok()) {
    Complain(ran,
             outcome.rows.empty() ? "nothing was measured: " : "stopped: ");
    outcome.stopped = std::string(ran.message());
    outcome.failed = true;
    WriteJson(settings.json, outcome).IgnoreError();
  }
  return outcome;
}

absl::StatusOr<Flags::Action> Parse(int argc, char** argv, Settings& settings) {
  Flags flags("gpu_bench",
              "Measures kernels and copies of this machine's GPU.");
  flags.Add("device", &settings.device, "which GPU", 0, 1023);
  flags.AddBytes("bytes", &settings.bytes,
                 "of the large copy; a multiple of 4 MiB");
  flags.Add("repeats", &settings.repeats, "rounds; medians are printed", 1,
            1000);
  flags.Add("blocks-per-sm", &settings.blocks,
            "blocks of threads for each multiprocessor; 0: once 8, which fill "
            "it, and once 1, as agents do by default",
            0, 64);
  flags.Add("json", &settings.json,
            "file for a summary, written anew after each row");
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
  const auto action = Parse(argc, argv, settings);
  if (!action.ok()) {
    Complain(action.status());
    return 2;
  }
  if (*action == Flags::Action::kExit) return 0;
  const auto runtime = agent::cuda::LoadCudaRuntime();
  if (!runtime.ok()) {
    Complain(runtime.status(), "no GPU, nothing was measured: ");
    return 2;
  }
  if (settings.lender_socket >= 0) {
    const absl::Status lent =
        gpu_tests::RunLender({.runtime = runtime->get(),
                              .device = static_cast<int>(settings.device),
                              .elements = settings.elements},
                             static_cast<int>(settings.lender_socket));
    if (lent.ok()) return 0;
    Complain(lent);
    return 1;
  }
  const absl::StatusOr<Outcome> outcome = Measure(settings, **runtime);
  if (outcome.ok()) return outcome->failed ? 1 : 0;
  Complain(outcome.status());
  return 2;
}

}  // namespace sluice::bench
