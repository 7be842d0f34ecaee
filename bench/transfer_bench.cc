// Measures the agents' data plane beside its bounds, all in one run:
//
// * pulls inside a node, of one run and of short rows, beside libc's memcpy and
//   a non-temporal loop between the same two mappings;
// * four pairs of processes over loopback TCP, contiguous, strided and with
//   digests, beside UCX's own tag-bandwidth test in its sleeping mode;
// * collectives between eight processes of one node, beside the same by
//   torch.distributed with gloo and copies by all processors.
//
// Everything moved is verified; memory is touched before. What is compared is
// measured in turns: a ratio is the median of the rounds' own ratios, the other
// figures are medians of all rounds.

#include <algorithm>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/collective_cases.h"
#include "bench/transfer_cases.h"
#include "common/flags.h"
#include "common/program.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "tools/console/table.h"

namespace sluice::bench {
namespace {

constexpr int64_t kMessageBytes = int64_t{4} << 20;
// UCX's test moves so many times more: the less do its pairs' different starts
// weigh.
constexpr int64_t kPerftestFactor = 4;

// Least part of what all processors copy.
constexpr double kOfCopiesGoal = 0.6;

struct Settings {
  int64_t pairs = 4;
  int64_t repeats = 5;
  int64_t local_bytes = int64_t{256} << 20;
  int64_t network_bytes = int64_t{256} << 20;
  std::string json;
  bool transfers = true;
  int64_t collectives = 8;
};

bool SlowerThan(const Rate& a, const Rate& b) {
  return a.gb_per_s() < b.gb_per_s();
}

Rate Median(std::vector<Rate> rates) {
  const auto middle = rates.begin() + static_cast<ptrdiff_t>(rates.size() / 2);
  std::nth_element(rates.begin(), middle, rates.end(), SlowerThan);
  return *middle;
}

// What was measured in each round, and the bound of each round.
struct Measurement {
  std::string name;
  std::string bound;
  double goal = 0;  // least ratio; 0: none
  std::vector<Rate> rates = {};
  std::vector<Rate> bounds = {};

  // Median of the rounds'.
  double ratio() const {
    std::vector<double> ratios;
    for (size_t i = 0; i < rates.size(); ++i) {
      ratios.push_back(rates[i].gb_per_s() / bounds[i].gb_per_s());
    }
    std::sort(ratios.begin(), ratios.end());
    return ratios[ratios.size() / 2];
  }
};

absl::StatusOr<std::vector<Measurement>> MeasureNetwork(
    const Settings& settings) {
  const int pairs = static_cast<int>(settings.pairs);
  SLUICE_ASSIGN_OR_RETURN(NetworkPairs processes,
                          NetworkPairs::Create(pairs, settings.network_bytes));
  const int iterations = static_cast<int>(
      kPerftestFactor * settings.network_bytes / kMessageBytes);
  const char* const perftest = "ucx_perftest tag_bw";
  // Digests add at most 25 %: a ratio of 1 / 1.25 to the same without.
  std::vector<Measurement> all = {
      {"network, contiguous", perftest, 0.8},
      {"network, strided", perftest, 0.55},
      {"network, digests", "network, contiguous", 0.8}};
  const NetworkCase cases[] = {NetworkCase::kContiguous, NetworkCase::kStrided,
                               NetworkCase::kDigests};
  // Connections and staging buffers are made outside of the measurement.
  for (const NetworkCase what : cases) {
    SLUICE_RETURN_IF_ERROR(processes.Run(what).status());
  }
  for (int64_t i = 0; i < settings.repeats; ++i) {
    SLUICE_ASSIGN_OR_RETURN(const Rate reference,
                            RunPerftest(pairs, kMessageBytes, iterations));
    for (size_t j = 0; j < all.size(); ++j) {
      SLUICE_ASSIGN_OR_RETURN(all[j].rates.emplace_back(),
                              processes.Run(cases[j]));
    }
    all[0].bounds.push_back(reference);
    all[1].bounds.push_back(reference);
    all[2].bounds.push_back(all[0].rates.back());
  }
  return all;
}

absl::StatusOr<std::vector<Measurement>> MeasureLocal(
    const Settings& settings) {
  SLUICE_ASSIGN_OR_RETURN(LocalCopies copies,
                          LocalCopies::Create(settings.local_bytes));
  const char* const best = "better of the copies";
  Measurement pull{"pull, same node", best, 0.85};
  Measurement wide{"pull, rows of 1 KiB", best, 0.4};
  Measurement narrow{"pull, rows of 128 bytes", best, 0.28};
  Measurement libc{"memcpy", best};
  Measurement streaming{"non-temporal copy", best};
  SLUICE_RETURN_IF_ERROR(copies.Pull().status());
  for (int64_t i = 0; i < settings.repeats; ++i) {
    libc.rates.push_back(copies.Memcpy());
    streaming.rates.push_back(copies.NonTemporal());
    SLUICE_ASSIGN_OR_RETURN(pull.rates.emplace_back(), copies.Pull());
    SLUICE_ASSIGN_OR_RETURN(wide.rates.emplace_back(), copies.PullRows(1024));
    SLUICE_ASSIGN_OR_RETURN(narrow.rates.emplace_back(), copies.PullRows(128));
    const Rate better =
        std::max(libc.rates.back(), streaming.rates.back(), SlowerThan);
    for (Measurement* m : {&pull, &wide, &narrow, &libc, &streaming}) {
      m->bounds.push_back(better);
    }
  }
  return std::vector<Measurement>{pull, wide, narrow, libc, streaming};
}

void Print(const std::vector<Measurement>& measurements) {
  using console::Align;
  console::Table table({{"what", Align::kLeft},
                        {"bytes", Align::kRight},
                        {"seconds", Align::kRight},
                        {"GB/s", Align::kRight},
                        {"bound GB/s", Align::kRight},
                        {"ratio", Align::kRight},
                        {"goal", Align::kRight},
                        {"bound", Align::kLeft}});
  for (const Measurement& m : measurements) {
    const Rate rate = Median(m.rates);
    const Rate bound = Median(m.bounds);
    table.Add({m.name, absl::StrCat(rate.bytes),
               absl::StrFormat("%.3f", rate.seconds),
               absl::StrFormat("%.2f", rate.gb_per_s()),
               absl::StrFormat("%.2f", bound.gb_per_s()),
               absl::StrFormat("%.2f", m.ratio()),
               m.goal == 0 ? "" : absl::StrFormat(">= %.2f", m.goal), m.bound});
  }
  std::cout << table.Print() << std::flush;
}

double MedianOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

// The ratios of a collective, medians of the rounds' own.
double TimesGloo(const CollectiveFigures& figures) {
  std::vector<double> ratios;
  for (size_t i = 0; i < figures.gloo_seconds.size(); ++i) {
    ratios.push_back(figures.gloo_seconds[i] / figures.seconds[i]);
  }
  return MedianOf(std::move(ratios));
}
double OfCopies(const CollectiveFigures& figures) {
  std::vector<double> ratios;
  for (size_t i = 0; i < figures.seconds.size(); ++i) {
    ratios.push_back(static_cast<double>(figures.copied_bytes) * 1e-9 /
                     figures.seconds[i] / figures.copy_gb_per_s[i]);
  }
  return MedianOf(std::move(ratios));
}

void PrintCollectives(const std::vector<CollectiveFigures>& all,
                      const std::string& no_gloo) {
  using console::Align;
  console::Table table({{"collective", Align::kLeft},
                        {"bytes as copied", Align::kRight},
                        {"seconds", Align::kRight},
                        {"GB/s", Align::kRight},
                        {"copies GB/s", Align::kRight},
                        {"of copies", Align::kRight},
                        {"goal", Align::kRight},
                        {"gloo", Align::kLeft},
                        {"seconds", Align::kRight},
                        {"times faster", Align::kRight},
                        {"goal", Align::kRight}});
  for (const CollectiveFigures& f : all) {
    const double seconds = MedianOf(f.seconds);
    const bool compared = !f.gloo_seconds.empty();
    table.Add(
        {f.what.name, absl::StrCat(f.copied_bytes),
         absl::StrFormat("%.4f", seconds),
         absl::StrFormat("%.2f",
                         static_cast<double>(f.copied_bytes) * 1e-9 / seconds),
         absl::StrFormat("%.2f", MedianOf(f.copy_gb_per_s)),
         absl::StrFormat("%.2f", OfCopies(f)),
         absl::StrFormat(">= %.1f", kOfCopiesGoal),
         compared ? f.what.gloo : "-",
         compared ? absl::StrFormat("%.4f", MedianOf(f.gloo_seconds)) : "-",
         compared ? absl::StrFormat("%.1f", TimesGloo(f)) : "-",
         absl::StrFormat(">= %.0f", f.what.goal)});
  }
  std::cout << table.Print();
  if (!no_gloo.empty()) std::cout << no_gloo << "\n";
  std::cout << std::flush;
}

nlohmann::json ToJson(const std::vector<CollectiveFigures>& all) {
  nlohmann::json out = nlohmann::json::array();
  for (const CollectiveFigures& f : all) {
    out.push_back({{"name", f.what.name},
                   {"copied_bytes", f.copied_bytes},
                   {"seconds", f.seconds},
                   {"copy_gb_per_s", f.copy_gb_per_s},
                   {"of_copies", OfCopies(f)},
                   {"gloo", f.what.gloo},
                   {"gloo_seconds", f.gloo_seconds},
                   {"times_faster", TimesGloo(f)},
                   {"goal", f.what.goal}});
  }
  return out;
}

absl::Status WriteJson(const std::string& path,
                       const std::vector<Measurement>& measurements,
                       const std::vector<CollectiveFigures>& collectives) {
  nlohmann::json all = nlohmann::json::array();
  for (const Measurement& m : measurements) {
    const Rate rate = Median(m.rates);
    const Rate bound = Median(m.bounds);
    all.push_back({{"name", m.name},
                   {"bytes", rate.bytes},
                   {"seconds", rate.seconds},
                   {"gb_per_s", rate.gb_per_s()},
                   {"bound", m.bound},
                   {"bound_gb_per_s", bound.gb_per_s()},
                   {"ratio", m.ratio()},
                   {"goal", m.goal}});
  }
  std::ofstream file(path);
  file << nlohmann::json{{"verified", true},
                         {"measurements", all},
                         {"collectives", ToJson(collectives)}}
              .dump(2)
       << "\n";
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("writing ", path));
  return absl::OkStatus();
}

absl::Status Run(int argc, char** argv) {
  Settings settings;
  Flags flags("transfer_bench", "Measures copies and transfers of agents.");
  flags.Add("pairs", &settings.pairs, "pairs of processes at once", 1, 64);
  flags.Add("repeats", &settings.repeats, "medians are of so many", 1, 1000);
  flags.AddBytes("local-bytes", &settings.local_bytes, "of one pull");
  flags.AddBytes("network-bytes", &settings.network_bytes, "of one pair");
  flags.Add("transfers", &settings.transfers, "measure transfers and copies");
  flags.Add("collectives", &settings.collectives,
            "members of the collectives, a divisor of 64; 0 measures none", 0,
            64);
  flags.Add("json", &settings.json, "file to write the figures to");
  SLUICE_ASSIGN_OR_RETURN(const Flags::Action action, flags.Parse(argc, argv));
  if (action == Flags::Action::kExit) return absl::OkStatus();
  if (settings.local_bytes < (64 << 20) ||
      settings.network_bytes < kMessageBytes ||
      settings.local_bytes % kMessageBytes != 0 ||
      settings.network_bytes % kMessageBytes != 0) {
    return absl::InvalidArgumentError(
        "expected at least 64 MiB of --local-bytes and 4 MiB of "
        "--network-bytes, both multiples of 4 MiB");
  }
  if (settings.collectives != 0 && 64 % settings.collectives != 0) {
    return absl::InvalidArgumentError(
        "expected --collectives to be 0 or a divisor of 64");
  }
  // What forks comes first, while this process has one thread.
  std::vector<Measurement> measurements;
  if (settings.transfers) {
    SLUICE_ASSIGN_OR_RETURN(measurements, MeasureNetwork(settings));
  }
  std::vector<CollectiveFigures> collectives;
  std::string no_gloo;
  if (settings.collectives != 0) {
    SLUICE_ASSIGN_OR_RETURN(
        collectives,
        MeasureCollectives(static_cast<int>(settings.collectives),
                           static_cast<int>(settings.repeats), no_gloo));
  }
  if (settings.transfers) {
    SLUICE_ASSIGN_OR_RETURN(const std::vector<Measurement> local,
                            MeasureLocal(settings));
    measurements.insert(measurements.end(), local.begin(), local.end());
    Print(measurements);
  }
  if (!collectives.empty()) PrintCollectives(collectives, no_gloo);
  return settings.json.empty()
             ? absl::OkStatus()
             : WriteJson(settings.json, measurements, collectives);
}

}  // namespace
}  // namespace sluice::bench

SLUICE_PROGRAM(TransferBench) {
  const absl::Status status = sluice::bench::Run(argc, argv);
  if (status.ok()) return 0;
  std::cerr << "transfer_bench: " << status << std::endl;
  return 1;
}
