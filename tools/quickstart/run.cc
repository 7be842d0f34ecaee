#include "tools/quickstart/run.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/load_cuda_runtime.h"
#include "common/format.h"
#include "common/status_macros.h"
#include "tools/checkpoint_generator/generator.h"
#include "tools/console/progress.h"
#include "tools/local_cluster/binaries.h"
#include "tools/quickstart/machine_rates.h"
#include "tools/quickstart/parameter_steps.h"
#include "tools/quickstart/sample_steps.h"
#include "tools/quickstart/session.h"

namespace sluice::quickstart {
namespace {

namespace fs = std::filesystem;
using local_cluster::LocalCluster;

constexpr absl::Duration kStartTimeout = absl::Seconds(60);
// Beyond the placements: samples, rounding up, whatever comes next.
constexpr int64_t kSpareMemory = int64_t{1} << 30;

std::string ClusterDir(const Options& options) {
  return absl::StrCat(options.state_dir, "/cluster");
}

absl::Status PrepareStateDir(const Options& options) {
  const std::string dir = ClusterDir(options);
  const auto running = LocalCluster::Open(dir);
  if (running.ok() && local_cluster::IsAlive(running->coordinator())) {
    return absl::AlreadyExistsError(absl::StrCat(
        "a cluster is still up; look at it with \"sluicectl --state-dir ", dir,
        " status\", stop it with \"sluicectl --state-dir ", dir, " down\""));
  }
  std::error_code error;
  fs::remove_all(dir, error);
  fs::create_directories(dir, error);
  if (error) {
    return absl::PermissionDeniedError(
        absl::StrCat("cannot make ", dir, ": ", error.message()));
  }
  return absl::OkStatus();
}

// Sees that the GPUs that agents are to serve are there, before any work.
absl::Status FindGpus(Session& session) {
  const Options& options = session.options;
  if (!options.on_gpus()) return absl::OkStatus();
  const std::string what = absl::StrCat("--device ", options.device);
  auto cuda = agent::cuda::LoadCudaRuntime();
  if (!cuda.ok()) return Annotate(cuda.status(), what);
  session.cuda = *std::move(cuda);
  const absl::StatusOr<int> gpus = session.cuda->DeviceCount();
  if (!gpus.ok()) return Annotate(gpus.status(), what);
  if (*gpus < 1) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, ": this machine has no GPU"));
  }
  session.gpus = *gpus;
  std::map<std::string, std::set<int>> used;  // by name
  for (int i = 0; i < options.num_agents(); ++i) {
    const int gpu = *options.GpuOf(i, session.gpus);
    const auto device = agent::cuda::CudaDevice::Open(session.cuda.get(), gpu);
    if (!device.ok()) return Annotate(device.status(), what);
    used[(*device)->info().name].insert(gpu);
  }
  std::vector<std::string> words;
  for (const auto& [name, numbers] : used) {
    words.push_back(
        absl::StrCat(name, " (GPU ", absl::StrJoin(numbers, ", "), ")"));
  }
  session.report.setting.emplace_back("device", absl::StrJoin(words, ", "));
  return absl::OkStatus();
}

// Rates of the host's memory say nothing of a GPU.
absl::Status Measure(Session& session) {
  if (session.options.on_gpus()) return absl::OkStatus();
  console::Progress progress("measure this machine", session.options.quiet);
  SLUICE_ASSIGN_OR_RETURN(session.report.rates, MeasureMachine());
  progress.Finish("done");
  return absl::OkStatus();
}

absl::Status FindCheckpoint(Session& session) {
  const Options& options = session.options;
  if (!options.checkpoint.empty()) {
    session.checkpoint =
        fs::absolute(options.checkpoint).lexically_normal().string();
    return absl::OkStatus();
  }
  GeneratorOptions generator;
  generator.seed = options.seed;
  generator.layers = options.layers;
  session.checkpoint = absl::StrCat(fs::absolute(options.state_dir).string(),
                                    "/checkpoints/qwen2.5-1.5b-layers-",
                                    options.layers, "-seed-", options.seed);
  console::Progress progress("checkpoint", options.quiet);
  SLUICE_ASSIGN_OR_RETURN(
      const bool made,
      GenerateCheckpoint(generator, session.checkpoint, /*replace=*/false,
                         [&](int64_t done, int64_t total) {
                           progress.Update(done, total, "generated");
                         }));
  progress.Finish(made ? "generated" : "is there already");
  return absl::OkStatus();
}

absl::Status AwaitAgents(Session& session) {
  const absl::Time deadline = absl::Now() + kStartTimeout;
  const auto wanted = static_cast<int64_t>(session.cluster->agents().size());
  for (;;) {
    SLUICE_ASSIGN_OR_RETURN(const v1::GetStatusResponse status,
                            session.client->GetStatus(1));
    const int64_t alive =
        std::count_if(status.agents().begin(), status.agents().end(),
                      [](const v1::AgentStatus& agent) {
                        return agent.state() == v1::AGENT_STATE_ALIVE;
                      });
    if (alive == wanted) return absl::OkStatus();
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("only ", alive, " of ", wanted, " agents are alive"));
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
}

absl::Status StartCluster(Session& session, Interrupt& interrupt) {
  const Options& options = session.options;
  console::Progress progress("start cluster", options.quiet);
  local_cluster::Options start;
  start.dir = ClusterDir(options);
  start.nodes = options.nodes;
  start.agents_per_node = options.agents_per_node;
  start.coordinator_binary = options.coordinator_binary;
  start.agent_binary = options.agent_binary;
  start.die_with_parent = !options.keep;
  for (int i = 0; i < options.num_agents(); ++i) {
    start.own_agent_flags.push_back(
        {absl::StrCat("--device=", session.DeviceOf(i))});
  }
  SLUICE_ASSIGN_OR_RETURN(const int64_t needed, AgentMemoryNeeded(session));
  start.agent_memory_bytes = needed + kSpareMemory;
  SLUICE_RETURN_IF_ERROR(local_cluster::FindBinaries(start));
  SLUICE_ASSIGN_OR_RETURN(LocalCluster cluster,
                          LocalCluster::Start(start, kStartTimeout));
  session.cluster = std::make_unique<LocalCluster>(std::move(cluster));
  for (const local_cluster::AgentProcess& agent : session.cluster->agents()) {
    interrupt.Add(agent.process);
  }
  interrupt.Add(session.cluster->coordinator());
  ClientOptions client;
  client.address = session.cluster->coordinator_address();
  client.retry_for = absl::Seconds(2);
  SLUICE_ASSIGN_OR_RETURN(session.client, Client::Connect(client));
  SLUICE_RETURN_IF_ERROR(AwaitAgents(session));
  progress.Finish(absl::StrCat("a coordinator at ", client.address, ", ",
                               session.cluster->agents().size(), " agents on ",
                               options.nodes, " nodes"));
  return absl::OkStatus();
}

void DescribeSetting(Session& session) {
  const Options& options = session.options;
  auto& setting = session.report.setting;
  setting.emplace_back("checkpoint", session.checkpoint);
  setting.emplace_back(
      "model",
      absl::StrCat(
          HumanCount(static_cast<int64_t>(session.model.tensors.size())),
          " tensors, ", HumanBytes(session.model.num_bytes())));
  setting.emplace_back("agents", absl::StrCat(options.nodes, " nodes of ",
                                              options.agents_per_node));
  setting.emplace_back("trainer", options.trainer_mesh + ", megatron");
  setting.emplace_back("rollout", options.rollout_mesh + ", vllm");
  setting.emplace_back("samples", HumanCount(options.samples));
}

absl::Status Steps(Session& session, Interrupt& interrupt) {
  SLUICE_RETURN_IF_ERROR(PrepareStateDir(session.options));
  SLUICE_RETURN_IF_ERROR(FindGpus(session));
  SLUICE_RETURN_IF_ERROR(FindCheckpoint(session));
  SLUICE_RETURN_IF_ERROR(PlanPlacements(session));
  DescribeSetting(session);
  SLUICE_RETURN_IF_ERROR(Measure(session));
  SLUICE_RETURN_IF_ERROR(StartCluster(session, interrupt));
  SLUICE_RETURN_IF_ERROR(Place(session));
  for (const auto& worker : session.workers) interrupt.Add(worker->process());
  SLUICE_RETURN_IF_ERROR(Load(session));
  SLUICE_RETURN_IF_ERROR(Sync(session, "sync 1", /*sign_flips=*/0));
  SLUICE_RETURN_IF_ERROR(Train(session, /*step=*/1));
  SLUICE_RETURN_IF_ERROR(Sync(session, "sync 2", /*sign_flips=*/1));
  SLUICE_RETURN_IF_ERROR(PutBatch(session));
  SLUICE_RETURN_IF_ERROR(RedistributeBatch(session));
  SLUICE_ASSIGN_OR_RETURN(const v1::GetStatusResponse status,
                          session.client->GetStatus(1));
  session.report.coordinator_rss_bytes = status.coordinator_rss_bytes();
  return absl::OkStatus();
}

void SayHowToLook(const Session& session) {
  const std::string sluicectl = absl::StrCat(
      local_cluster::FindProgram({"tools/sluicectl/sluicectl", "sluicectl"})
          .value_or("sluicectl"),
      " --state-dir ", session.cluster->dir());
  std::printf("\nThe cluster is up.\n  look:  %s status\n  stop:  %s down\n",
              sluicectl.c_str(), sluicectl.c_str());
}

}  // namespace

absl::Status Run(Options options, Interrupt& interrupt, Report& report) {
  SLUICE_RETURN_IF_ERROR(options.Complete());
  if (options.worker_binary.empty()) {
    SLUICE_ASSIGN_OR_RETURN(
        options.worker_binary,
        local_cluster::FindProgram(
            {"tools/quickstart/worker/worker", "sluice-quickstart-worker"}));
  }
  Session session;
  session.options = std::move(options);
  absl::Status status = Steps(session, interrupt);
  report = std::move(session.report);
  session.readers.clear();
  session.workers.clear();
  session.client.reset();
  if (session.cluster == nullptr) return status;
  if (session.options.keep && status.ok()) {
    SayHowToLook(session);
    return status;
  }
  status.Update(session.cluster->Stop());
  if (status.ok()) {
    std::error_code ignored;
    fs::remove_all(session.cluster->dir(), ignored);
  } else if (!interrupt.came()) {
    std::fprintf(stderr, "logs are in %s\n", session.cluster->dir().c_str());
  }
  return status;
}

}  // namespace sluice::quickstart
