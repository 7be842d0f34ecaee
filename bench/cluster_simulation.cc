// How fast plans are on clusters that are not at hand: published syncs planned
// and run on simulated links, beside the bound and other patterns.
//
//   bazel run -c opt //bench:cluster_simulation -- [--case NAME] [--json FILE]
//       [--window TRANSFERS]
//
// Exit code 1: a plan of Sluice's misses a goal.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bench/planner/published_cases.h"
#include "common/format.h"
#include "common/status_macros.h"
#include "coordinator/planner/simulation/evaluation.h"
#include "coordinator/planner/simulation/simulator.h"
#include "presets/link_presets.h"
#include "tools/console/table.h"

namespace sluice::bench {
namespace {

using coordinator::simulation::Evaluate;
using coordinator::simulation::Evaluation;
using coordinator::simulation::PatternName;
using coordinator::simulation::PatternResult;
using coordinator::simulation::PlanPattern;
using coordinator::simulation::SimulationOptions;

constexpr double kByteGoal = 1.05;  // most loaded link over the lower bound
constexpr double kTimeGoal = 1.15;  // simulated over the bound's seconds
constexpr size_t kColumns = 10;     // of the table

struct Measured {
  Evaluation evaluation;
  double wall_seconds = 0;  // planning and simulating, all patterns
};

absl::StatusOr<Measured> Measure(const PublishedCase& published,
                                 const SimulationOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(const LinkTable table,
                          FindLinkPreset(published.links));
  SLUICE_ASSIGN_OR_RETURN(const coordinator::ReshardInput input,
                          MakeReshardInput(published));
  const absl::Time start = absl::Now();
  Measured out;
  SLUICE_ASSIGN_OR_RETURN(out.evaluation, Evaluate(input,
                                                   {PlanPattern::kGatherScatter,
                                                    PlanPattern::kBroadcast,
                                                    PlanPattern::kTwoStage},
                                                   table, options));
  out.wall_seconds = absl::ToDoubleSeconds(absl::Now() - start);
  return out;
}

bool MeetsGoals(const Evaluation& evaluation) {
  const PatternResult& direct = evaluation.patterns[0];
  return direct.plan.certificate.bound_ratio <= kByteGoal &&
         evaluation.TimeRatio(direct) <= kTimeGoal;
}

std::string Milliseconds(double seconds) {
  return absl::StrFormat("%.2f", seconds * 1e3);
}

void AddRows(const PublishedCase& published, const Measured& measured,
             console::Table& table) {
  const Evaluation& evaluation = measured.evaluation;
  for (const PatternResult& result : evaluation.patterns) {
    std::vector<std::string> row = {"", "", PatternName(result.pattern)};
    if (result.pattern == PlanPattern::kDirect) {
      row[0] = published.name;
      row[1] = published.links;
    }
    if (!result.status.ok()) {
      row.resize(kColumns - 1);
      row.push_back(
          absl::StrCat("refused: ", std::string(result.status.message())));
      table.Add(std::move(row));
      continue;
    }
    const Certificate& certificate = result.plan.certificate;
    row.push_back(HumanBytes(certificate.max_link_bytes));
    row.push_back(absl::StrFormat("%.3f", certificate.bound_ratio));
    row.push_back(Milliseconds(result.simulated.seconds));
    row.push_back(Milliseconds(evaluation.bound.seconds));
    row.push_back(absl::StrFormat("%.3f", evaluation.TimeRatio(result)));
    row.push_back(HumanCount(certificate.num_transfers));
    if (result.pattern == PlanPattern::kDirect) {
      row.push_back(MeetsGoals(evaluation) ? "met" : "MISSED");
    }
    table.Add(std::move(row));
  }
}

nlohmann::json ToJson(const PublishedCase& published,
                      const Measured& measured) {
  const Evaluation& evaluation = measured.evaluation;
  nlohmann::json patterns = nlohmann::json::array();
  for (const PatternResult& result : evaluation.patterns) {
    nlohmann::json& out = patterns.emplace_back();
    out["pattern"] = PatternName(result.pattern);
    if (!result.status.ok()) {
      out["refused"] = std::string(result.status.message());
      continue;
    }
    const Certificate& certificate = result.plan.certificate;
    out["max_link_bytes"] = certificate.max_link_bytes;
    out["byte_ratio"] = certificate.bound_ratio;
    out["seconds"] = result.simulated.seconds;
    out["time_ratio"] = evaluation.TimeRatio(result);
    out["transfers"] = certificate.num_transfers;
    if (!result.simulated.busiest.empty()) {
      out["busiest_link"] = result.simulated.busiest[0].name;
    }
  }
  return {{"case", published.name},
          {"model", published.model},
          {"links", published.links},
          {"ranks", published.num_ranks()},
          {"lower_bound_bytes", evaluation.lower_bound_bytes},
          {"bound_seconds", evaluation.bound.seconds},
          {"bound_limit", evaluation.bound.limit},
          {"wall_seconds", measured.wall_seconds},
          {"goals_met", MeetsGoals(evaluation)},
          {"patterns", std::move(patterns)}};
}

struct Options {
  std::string only;  // one case
  std::string json;  // where to write
  SimulationOptions simulation;
};

int Run(const Options& options) {
  using console::Align;
  console::Table table({{"case"},
                        {"links"},
                        {"pattern"},
                        {"most loaded link", Align::kRight},
                        {"/ bound", Align::kRight},
                        {"simulated ms", Align::kRight},
                        {"bound ms", Align::kRight},
                        {"/ bound", Align::kRight},
                        {"transfers", Align::kRight},
                        {"goals"}});
  nlohmann::json cases = nlohmann::json::array();
  bool all_met = true;
  for (const PublishedCase& published : PublishedCases()) {
    if (!options.only.empty() && options.only != published.name) continue;
    const absl::StatusOr<Measured> measured =
        Measure(published, options.simulation);
    if (!measured.ok()) {
      std::fprintf(stderr, "%s: %s\n", published.name.c_str(),
                   measured.status().ToString().c_str());
      return 1;
    }
    std::fprintf(stderr, "%s: %.1f s\n", published.name.c_str(),
                 measured->wall_seconds);
    AddRows(published, *measured, table);
    cases.push_back(ToJson(published, *measured));
    all_met = all_met && MeetsGoals(measured->evaluation);
  }
  if (cases.empty()) {
    std::fprintf(stderr, "%s\n",
                 FindPublishedCase(options.only).status().ToString().c_str());
    return 2;
  }
  std::printf("%s", table.Print().c_str());
  if (!options.json.empty()) {
    std::ofstream file(options.json);
    file << nlohmann::json{{"byte_goal", kByteGoal},
                           {"time_goal", kTimeGoal},
                           {"cases", std::move(cases)}}
                .dump(2)
         << "\n";
    if (!file.flush()) {
      std::fprintf(stderr, "cannot write %s\n", options.json.c_str());
      return 1;
    }
  }
  return all_met ? 0 : 1;
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  sluice::bench::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (i + 1 < argc && flag == "--case") {
      options.only = argv[++i];
    } else if (i + 1 < argc && flag == "--json") {
      options.json = argv[++i];
    } else if (i + 1 < argc && flag == "--window") {
      options.simulation.receive_window = std::atoi(argv[++i]);
    } else {
      std::fprintf(stderr,
                   "usage: cluster_simulation [--case NAME] [--json FILE] "
                   "[--window TRANSFERS]\n");
      return 2;
    }
  }
  return sluice::bench::Run(options);
}
