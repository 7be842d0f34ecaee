// Simulated clusters, many seeds for each kind of trouble. A failure prints its
// seed, what broke and what happened before.
//
//   SLUICE_SIM_SEEDS=N   seeds per policy (default 45)
//   SLUICE_SIM_FIRST=N   first seed (default 1)
//   SLUICE_SIM_POLICY=P  this policy only
//   SLUICE_SIM_VERBOSE=1 the history as it happens
//
// bazel test //tests/sim:cluster_test --test_env=SLUICE_SIM_SEEDS=5000

#include <catch2/catch.hpp>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "tests/sim/sim_cluster.h"

namespace sluice::sim {
namespace {

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}

FaultPolicy Policy(const std::string& name) {
  FaultPolicy policy;
  policy.name = name;
  if (name == "agents") {
    policy.kill_agents = policy.stop_agents = true;
    policy.moment_one_in = 250;
  } else if (name == "coordinator") {
    policy.kill_coordinator = policy.stop_coordinator = true;
    policy.moment_one_in = 200;
  } else if (name == "network") {
    policy.break_streams = policy.cut_agents = policy.weather = true;
    policy.moment_one_in = 60;
  } else if (name == "workers") {
    policy.kill_workers = true;
    policy.moment_one_in = 40;
  } else if (name == "everything") {
    policy.kill_agents = policy.stop_agents = true;
    policy.kill_coordinator = policy.stop_coordinator = true;
    policy.break_streams = policy.cut_agents = true;
    policy.kill_workers = policy.weather = true;
    policy.moment_one_in = 400;
  }
  return policy;
}

Outcome RunSeed(const std::string& policy, uint64_t seed) {
  SimCluster cluster(seed, Policy(policy),
                     FromEnvironment("SLUICE_SIM_VERBOSE", 0) != 0);
  return cluster.Run();
}

void RunSeeds(const std::string& policy, int64_t default_count) {
  const char* only = std::getenv("SLUICE_SIM_POLICY");
  if (only != nullptr && policy != only) return;
  const int64_t first = FromEnvironment("SLUICE_SIM_FIRST", 1);
  const int64_t count = FromEnvironment("SLUICE_SIM_SEEDS", default_count);
  std::map<std::string, int64_t> counts;
  for (int64_t seed = first; seed < first + count; ++seed) {
    const Outcome outcome = RunSeed(policy, static_cast<uint64_t>(seed));
    if (!outcome.violation.empty()) {
      FAIL("policy " << policy << ", seed " << seed << ": " << outcome.violation
                     << "\n"
                     << outcome.history);
    }
    for (const auto& [what, n] : outcome.counts) counts[what] += n;
    counts["steps"] += outcome.steps;
  }
  std::cout << policy << ": " << count << " seeds";
  for (const auto& [what, n] : counts) std::cout << ", " << n << " " << what;
  std::cout << "\n";
  // The runs must have been worth something.
  CHECK(counts["sync ok"] >= count);
  CHECK(counts["reads"] >= count);
  CHECK(counts["elements cast"] >= count);
}

TEST_CASE("a cluster without faults works", "[sim]") { RunSeeds("calm", 20); }

TEST_CASE("agents killed and stopped at any moment break nothing", "[sim]") {
  RunSeeds("agents", 70);
}

TEST_CASE("a coordinator killed and stopped at any moment breaks nothing",
          "[sim]") {
  RunSeeds("coordinator", 70);
}

TEST_CASE("broken streams, lost calls and repeated commands break nothing",
          "[sim]") {
  RunSeeds("network", 40);
}

TEST_CASE("workers killed at any moment break nothing", "[sim]") {
  RunSeeds("workers", 30);
}

TEST_CASE("everything at once breaks nothing", "[sim]") {
  RunSeeds("everything", 70);
}

}  // namespace
}  // namespace sluice::sim
