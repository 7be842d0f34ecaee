// What control costs: the latency of a sync that moves almost nothing, the
// coordinator's processor time for a repeated plan, idle agents, and memory
// that is not tensors. Starts a cluster of two nodes of four agents on this
// machine.
//
//   bazel run -c opt //bench:control_bench -- [--json FILE] [--syncs N]
//
// Prints a table of each figure beside its goal; exits 1 if a goal is missed.

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bench/proc_usage.h"
#include "client/cpp/client.h"
#include "common/status_macros.h"
#include "tests/integration/checkpoint_rig.h"
#include "tests/integration/patterned_model.h"
#include "tests/integration/test_cluster.h"
#include "tools/console/table.h"

namespace sluice::bench {
namespace {

using testing::CheckpointRig;
using testing::PatternedTrainer;
using testing::TestCluster;

constexpr int64_t kStagingBytes = int64_t{64} << 20;
constexpr int kAgents = 8;

struct Figure {
  std::string name;
  double value = 0;
  double goal = 0;  // at most
  std::string unit;
};

struct Settings {
  std::string json_file;
  int syncs = 50;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::StatusOr<double> CoordinatorCpuSeconds(Client& client) {
  SLUICE_ASSIGN_OR_RETURN(const v1::GetStatusResponse status,
                          client.GetStatus(1));
  return status.coordinator_cpu_seconds();
}

absl::Status Place(Client& client, const std::string& model,
                   const std::string& placement, v1::Mesh mesh,
                   v1::Storage storage) {
  v1::RegisterPlacementRequest request;
  request.set_model(model);
  request.set_placement(placement);
  *request.mutable_mesh() = std::move(mesh);
  v1::Layout& layout = *request.mutable_layout();
  layout.set_name("whole");
  layout.add_rules()->set_pattern("**");
  if (request.mesh().agents_size() > 1) layout.add_replica_axes("data");
  request.set_storage(storage);
  return client.RegisterPlacement(request).status();
}

// One 4-byte tensor from one agent to all eight.
absl::StatusOr<double> MedianEmptySyncMs(TestCluster& cluster, int syncs) {
  Client& client = cluster.client();
  v1::RegisterModelRequest request;
  v1::ModelSpec& model = *request.mutable_model();
  model.set_name("tiny");
  v1::TensorSpec& tensor = *model.add_tensors();
  tensor.set_name("step");
  tensor.set_dtype(v1::DTYPE_I32);
  tensor.add_shape(1);
  SLUICE_RETURN_IF_ERROR(client.RegisterModel(request).status());
  SLUICE_RETURN_IF_ERROR(
      Place(client, "tiny", "source",
            testing::MeshOf({{"data", 1}}, cluster.AgentNames({0})),
            v1::STORAGE_LENT));
  std::vector<int> all(kAgents);
  std::iota(all.begin(), all.end(), 0);
  SLUICE_RETURN_IF_ERROR(
      Place(client, "tiny", "everywhere",
            testing::MeshOf({{"data", kAgents}}, cluster.AgentNames(all)),
            v1::STORAGE_ARENA));
  SLUICE_ASSIGN_OR_RETURN(
      const std::unique_ptr<PatternedTrainer> trainer,
      PatternedTrainer::Start(cluster, model, "source", {0}));
  v1::SyncRequest sync;
  sync.set_model("tiny");
  sync.set_source("source");
  sync.add_destinations("everywhere");
  std::vector<double> milliseconds;
  for (int i = 0; i < syncs + 1; ++i) {
    SLUICE_RETURN_IF_ERROR(trainer->WriteNextStep().status());
    const absl::Time start = absl::Now();
    SLUICE_RETURN_IF_ERROR(client.Sync(sync).status());
    // The first makes the plan and the connections.
    if (i > 0) {
      milliseconds.push_back(absl::ToDoubleMilliseconds(absl::Now() - start));
    }
  }
  return Median(std::move(milliseconds));
}

// A checkpoint's tensors (small ones) between Megatron's and vLLM's layouts.
absl::StatusOr<double> MeanRepeatedSyncCpuMs(CheckpointRig& rig, Client& client,
                                             int syncs) {
  SLUICE_RETURN_IF_ERROR(rig.Load().status());
  SLUICE_RETURN_IF_ERROR(rig.Sync().status());
  double seconds = 0;
  for (int i = 0; i < syncs; ++i) {
    SLUICE_RETURN_IF_ERROR(rig.FlipSigns().status());
    SLUICE_ASSIGN_OR_RETURN(const double before, CoordinatorCpuSeconds(client));
    SLUICE_ASSIGN_OR_RETURN(const v1::OperationResult result, rig.Sync());
    SLUICE_ASSIGN_OR_RETURN(const double after, CoordinatorCpuSeconds(client));
    if (!result.plan_reused()) {
      return absl::InternalError("a repeated sync made its plan again");
    }
    seconds += after - before;
  }
  return 1000 * seconds / syncs;
}

// Percent of one core that all agents use together while nothing runs.
absl::StatusOr<double> IdlePercent(TestCluster& cluster,
                                   absl::Duration duration) {
  const auto total = [&]() -> absl::StatusOr<absl::Duration> {
    absl::Duration sum;
    for (const auto& agent : cluster.processes().agents()) {
      SLUICE_ASSIGN_OR_RETURN(const absl::Duration cpu,
                              CpuTime(agent.process.pid));
      sum += cpu;
    }
    return sum;
  };
  SLUICE_ASSIGN_OR_RETURN(const absl::Duration before, total());
  absl::SleepFor(duration);
  SLUICE_ASSIGN_OR_RETURN(const absl::Duration after, total());
  return 100 * absl::FDivDuration(after - before, duration);
}

// The most that an agent holds beside its tensors, after syncs that crossed.
absl::StatusOr<int64_t> MostAgentBytes(TestCluster& cluster,
                                       const std::vector<std::string>& models) {
  int64_t most = 0;
  for (const auto& agent : cluster.processes().agents()) {
    SLUICE_ASSIGN_OR_RETURN(const MemoryUsage usage,
                            ReadMemoryUsage(agent.process.pid, models));
    most = std::max(most, usage.anonymous_bytes + usage.other_file_bytes);
  }
  return most;
}

// 80 MB through the network and back, so that staging has been used.
absl::Status SyncLarge(TestCluster& cluster) {
  Client& client = cluster.client();
  const v1::ModelSpec model = testing::PatternedModel("large", 8192);
  v1::RegisterModelRequest request;
  *request.mutable_model() = model;
  SLUICE_RETURN_IF_ERROR(client.RegisterModel(request).status());
  v1::RegisterPlacementRequest place;
  place.set_model("large");
  place.set_placement("rows");
  *place.mutable_mesh() =
      testing::MeshOf({{"tensor", 2}}, cluster.AgentNames({0, 4}));
  *place.mutable_layout() = testing::RowLayout();
  place.set_storage(v1::STORAGE_LENT);
  SLUICE_RETURN_IF_ERROR(client.RegisterPlacement(place).status());
  place.set_placement("serving");
  *place.mutable_mesh() = testing::MeshOf({{"data", 2}, {"tensor", 2}},
                                          cluster.AgentNames({1, 2, 5, 6}));
  *place.mutable_layout() = testing::ServingLayout();
  place.set_storage(v1::STORAGE_ARENA);
  SLUICE_RETURN_IF_ERROR(client.RegisterPlacement(place).status());
  SLUICE_ASSIGN_OR_RETURN(
      const std::unique_ptr<PatternedTrainer> trainer,
      PatternedTrainer::Start(cluster, model, "rows", {0, 4}));
  v1::SyncRequest sync;
  sync.set_model("large");
  sync.set_source("rows");
  sync.add_destinations("serving");
  for (int i = 0; i < 3; ++i) {
    SLUICE_RETURN_IF_ERROR(trainer->WriteNextStep().status());
    SLUICE_RETURN_IF_ERROR(client.Sync(sync).status());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Figure>> Measure(const Settings& settings) {
  TestCluster::Options options;
  options.agents_per_node = kAgents / options.nodes;
  options.agent_staging_bytes = kStagingBytes;
  options.lease = absl::Seconds(10);
  options.heartbeat_interval = absl::Seconds(1);
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<TestCluster> cluster,
                          TestCluster::Start(options));
  std::vector<Figure> figures;
  SLUICE_ASSIGN_OR_RETURN(const double empty_ms,
                          MedianEmptySyncMs(*cluster, settings.syncs));
  figures.push_back({"empty sync, median", empty_ms, 10, "ms"});
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointRig> rig,
                          CheckpointRig::Start(*cluster, {}));
  SLUICE_ASSIGN_OR_RETURN(
      const double cpu_ms,
      MeanRepeatedSyncCpuMs(*rig, cluster->client(), settings.syncs));
  figures.push_back({"coordinator CPU of a repeated sync", cpu_ms, 5, "ms"});
  SLUICE_RETURN_IF_ERROR(SyncLarge(*cluster));
  SLUICE_ASSIGN_OR_RETURN(const double idle,
                          IdlePercent(*cluster, absl::Seconds(5)));
  figures.push_back({"eight idle agents", idle, 2, "% of a core"});
  SLUICE_ASSIGN_OR_RETURN(
      const int64_t agent_bytes,
      MostAgentBytes(*cluster, {"tiny", "policy", "large"}));
  constexpr double kMiB = 1 << 20;
  figures.push_back({"agent's memory beside its tensors",
                     static_cast<double>(agent_bytes) / kMiB,
                     static_cast<double>(kStagingBytes) / kMiB + 64, "MiB"});
  SLUICE_ASSIGN_OR_RETURN(const v1::GetStatusResponse status,
                          cluster->client().GetStatus(1));
  figures.push_back({"coordinator's resident memory",
                     static_cast<double>(status.coordinator_rss_bytes()) / kMiB,
                     100, "MiB"});
  return figures;
}

absl::Status Report(const std::vector<Figure>& figures,
                    const Settings& settings) {
  using console::Align;
  console::Table table({{"figure"},
                        {"value", Align::kRight},
                        {"goal", Align::kRight},
                        {"unit"},
                        {""}});
  nlohmann::json json = nlohmann::json::array();
  bool met = true;
  for (const Figure& figure : figures) {
    const bool good = figure.value <= figure.goal;
    met = met && good;
    table.Add({figure.name, absl::StrFormat("%.2f", figure.value),
               absl::StrCat("<= ", figure.goal), figure.unit,
               good ? "" : "MISSED"});
    json.push_back({{"name", figure.name},
                    {"value", figure.value},
                    {"goal", figure.goal},
                    {"unit", figure.unit},
                    {"met", good}});
  }
  std::cout << table.Print();
  if (!settings.json_file.empty()) {
    std::ofstream file(settings.json_file, std::ios::trunc);
    file << json.dump(1) << "\n";
    if (!file.flush()) {
      return absl::InternalError(
          absl::StrCat("cannot write ", settings.json_file));
    }
  }
  if (!met) return absl::FailedPreconditionError("a goal is missed");
  return absl::OkStatus();
}

absl::StatusOr<Settings> ParseArguments(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (i + 1 == argc) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": expected --json FILE or --syncs N"));
    }
    const std::string value = argv[++i];
    if (name == "--json") {
      settings.json_file = value;
    } else if (name != "--syncs" || !absl::SimpleAtoi(value, &settings.syncs) ||
               settings.syncs < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " ", value, ": expected --json FILE, --syncs N"));
    }
  }
  return settings;
}

absl::Status Run(int argc, char** argv) {
  SLUICE_ASSIGN_OR_RETURN(const Settings settings, ParseArguments(argc, argv));
  SLUICE_ASSIGN_OR_RETURN(const std::vector<Figure> figures, Measure(settings));
  return Report(figures, settings);
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  const absl::Status status = sluice::bench::Run(argc, argv);
  if (status.ok()) return EXIT_SUCCESS;
  std::cerr << "control_bench: " << status.message() << "\n";
  return absl::IsInvalidArgument(status) ? 2 : EXIT_FAILURE;
}
