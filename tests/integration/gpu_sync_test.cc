// Parameters on GPUs with real agents (tests/fakes/cuda): what workers lend by
// CUDA IPC, what agents have in their own arenas, and agents without a GPU
// beside them.

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/cuda/cuda_runtime.h"
#include "client/cpp/client.h"
#include "client/cpp/worker.h"
#include "proto/sluice/v1/model_service.pb.h"
#include "proto/sluice/v1/operation.pb.h"
#include "proto/sluice/v1/status_service.pb.h"
#include "proto/sluice/v1/worker_service.pb.h"
#include "tests/fakes/cuda/process_gpu.h"
#include "tests/integration/checkpoint_rig.h"
#include "tests/integration/fake_nccl.h"
#include "tests/integration/gpu_job.h"
#include "tests/integration/gpu_memory.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

using agent::cuda::ProcessGpuRuntime;

constexpr int64_t kDelay = 200'000'000;  // nanoseconds

TEST_CASE("steps written behind slow kernels reach GPUs and hosts whole",
          "[integration][gpu]") {
  GpuJob job;
  REQUIRE_OK(job.Start());
  for (const int64_t delay : {kDelay, int64_t{0}, kDelay}) {
    REQUIRE_OK_AND_ASSIGN(const uint64_t version, job.WriteNextStep(delay));
    REQUIRE_OK_AND_ASSIGN(const v1::OperationResult result, job.Sync());
    CHECK(result.version() == version);
    for (int agent = 0; agent < 4; ++agent) {
      CAPTURE(agent);
      REQUIRE_OK_AND_ASSIGN(const int64_t step,
                            job.ReadRollout(agent, version));
      CHECK(step == job.step());
    }
  }
  CHECK(job.device_pins() == 9);
  v1::VerifyRequest verify;
  verify.set_model("policy");
  verify.set_placement("rollout");
  verify.set_against("trainer");
  CHECK_OK(job.cluster().client().Verify(verify));
}

TEST_CASE("GPUs of a node that do not reach each other exchange by the host",
          "[integration][gpu]") {
  for (const int reach : {2, 1}) {
    CAPTURE(reach);
    GpuJob job;
    GpuJob::Options options;
    options.cluster.gpu_reach = reach;
    REQUIRE_OK(job.Start(options));
    REQUIRE_OK_AND_ASSIGN(const uint64_t version, job.WriteNextStep(kDelay));
    REQUIRE_OK_AND_ASSIGN(const v1::OperationResult result, job.Sync());
    // Only agents 0 and 1 are of one node and have a GPU both.
    CHECK((result.bytes().same_node() > 0) == (reach == 2));
    for (int agent = 0; agent < 4; ++agent) {
      CAPTURE(agent);
      REQUIRE_OK_AND_ASSIGN(const int64_t step,
                            job.ReadRollout(agent, version));
      CHECK(step == job.step());
    }
  }
}

TEST_CASE("the second copy lies in pinned memory of the host where asked for",
          "[integration][gpu]") {
  GpuJob job;
  GpuJob::Options options;
  options.cluster.agent_flags = {"--second-copy=pinned"};
  REQUIRE_OK(job.Start(options));
  for (int sync = 0; sync < 4; ++sync) {
    CAPTURE(sync);
    const int before = job.device_pins();
    REQUIRE_OK_AND_ASSIGN(const uint64_t version, job.WriteNextStep(0));
    REQUIRE_OK(job.Sync());
    for (int agent = 0; agent < 4; ++agent) {
      CAPTURE(agent);
      REQUIRE_OK_AND_ASSIGN(const int64_t step,
                            job.ReadRollout(agent, version));
      CHECK(step == job.step());
    }
    // Of the three agents with GPUs; the copies are current by turns.
    CHECK(job.device_pins() - before == (sync % 2 == 0 ? 3 : 0));
  }
}

TEST_CASE("a placement that is offloaded to the host goes back to GPUs",
          "[integration][gpu]") {
  GpuJob job;
  REQUIRE_OK(job.Start());
  const std::vector<int> agents = {0, 1, 2, 3};
  REQUIRE_OK(job.PlaceOn("offloaded", agents, v1::STORAGE_HOST_ARENA));
  for (int round = 0; round < 3; ++round) {  // both copies, and one again
    CAPTURE(round);
    REQUIRE_OK_AND_ASSIGN(const uint64_t version, job.WriteNextStep(kDelay));
    REQUIRE_OK(job.Sync("offloaded", v1::TRANSPORT_AUTO));
    const int before = job.device_pins();
    for (const int agent : agents) {
      CAPTURE(agent);
      REQUIRE_OK_AND_ASSIGN(const int64_t step,
                            job.ReadRollout(agent, version, "offloaded"));
      CHECK(step == job.step());
    }
    CHECK(job.device_pins() == before);
    // From there, not from the trainer.
    v1::SyncRequest back;
    back.set_model("policy");
    back.set_source("offloaded");
    back.add_destinations("rollout");
    REQUIRE_OK(job.cluster().client().Sync(back));
    for (const int agent : agents) {
      CAPTURE(agent);
      REQUIRE_OK_AND_ASSIGN(const int64_t step,
                            job.ReadRollout(agent, version));
      CHECK(step == job.step());
    }
    CHECK(job.device_pins() == before + 3);  // of agents with GPUs
  }
}

TEST_CASE("what comes by NCCL lands in either copy, on the GPU or pinned",
          "[integration][gpu]") {
  FakeNccl nccl;
  GpuJob job;
  REQUIRE_OK(job.Start({.cluster = {.nodes = 2,
                                    .agents_per_node = 2,
                                    .gpus = {0, 1, 2, 3},
                                    .agent_flags = {"--second-copy=pinned"}},
                        .trainers = {0, 2},
                        .rows = 512}));
  for (int sync = 0; sync < 4; ++sync) {
    CAPTURE(sync);
    const int before = job.device_pins();
    REQUIRE_OK_AND_ASSIGN(const uint64_t version, job.WriteNextStep(0));
    // Nothing that crosses nodes gets there without NCCL.
    nccl.SetFaults("op_fail");
    CHECK_FALSE(job.Sync("rollout", v1::TRANSPORT_NCCL).ok());
    nccl.SetFaults("");
    REQUIRE_OK(job.Sync("rollout", v1::TRANSPORT_NCCL));
    for (int agent = 0; agent < 4; ++agent) {
      CAPTURE(agent);
      REQUIRE_OK_AND_ASSIGN(const int64_t step,
                            job.ReadRollout(agent, version));
      CHECK(step == job.step());
    }
    CHECK(job.device_pins() - before == (sync % 2 == 0 ? 4 : 0));
  }
}

TEST_CASE("an agent with a GPU that is killed comes back with what is lent",
          "[integration][gpu]") {
  GpuJob job;
  REQUIRE_OK(job.Start());
  REQUIRE_OK(job.WriteNextStep(0));
  REQUIRE_OK(job.Sync());
  for (const int killed : {0, 2}) {
    REQUIRE_OK(job.cluster().KillAgent(killed));
    REQUIRE_OK(job.cluster().RestartAgent(killed));
    REQUIRE_OK(job.cluster().AwaitAllAlive());
    REQUIRE_OK_AND_ASSIGN(const uint64_t version, job.WriteNextStep(0));
    REQUIRE_OK(job.Sync());
    REQUIRE_OK_AND_ASSIGN(const int64_t step, job.ReadRollout(killed, version));
    CHECK(step == job.step());
  }
}

// A handle of a process that has ended.
std::string EndedHandle() {
  int pipes[2];
  REQUIRE(pipe(pipes) == 0);
  const pid_t child = fork();
  if (child == 0) {
    ProcessGpuRuntime there;
    const auto handle =
        there.ExportMemory(there.Allocate(1 << 20).value()).value();
    _exit(write(pipes[1], handle.data(), handle.size()) > 0 ? 0 : 1);
  }
  std::string handle(agent::cuda::kIpcHandleBytes, 0);
  REQUIRE(read(pipes[0], handle.data(), handle.size()) ==
          static_cast<ssize_t>(handle.size()));
  waitpid(child, nullptr, 0);
  close(pipes[0]);
  close(pipes[1]);
  return handle;
}

TEST_CASE("memory of a GPU that cannot be mapped is refused with the reason",
          "[integration][gpu]") {
  const std::string ended = EndedHandle();  // before there are threads
  GpuJob job;
  REQUIRE_OK(job.Start());
  const auto refused = [&](size_t agent, const DeviceBytes& bytes) {
    return job.worker(agent).LendDevice("policy", "trainer", bytes);
  };
  DeviceBytes bytes = job.lent(0);
  bytes.size_bytes += 4096;
  CHECK_THAT(refused(0, bytes), StatusIs(absl::StatusCode::kInvalidArgument));
  bytes = job.lent(0);
  bytes.handle = ended;
  CHECK_THAT(refused(0, bytes), StatusIs(absl::StatusCode::kInvalidArgument));
  bytes.handle = "short";
  CHECK_THAT(refused(0, bytes), StatusIs(absl::StatusCode::kInvalidArgument));
  bytes = job.lent(0);
  bytes.event = std::string(64, 'x');
  CHECK_THAT(refused(0, bytes), StatusIs(absl::StatusCode::kInvalidArgument));
  // This agent serves no GPU.
  const absl::Status host =
      job.worker(3).LendDevice("policy", "rollout", job.lent(0));
  CHECK_THAT(host, StatusIs(absl::StatusCode::kUnimplemented));
  CHECK(absl::StrContains(host.message(), "GPU"));
}

TEST_CASE("the status says which GPU an agent serves", "[integration][gpu]") {
  REQUIRE_OK_AND_ASSIGN(
      const auto cluster,
      TestCluster::Start(
          {.nodes = 1, .agents_per_node = 3, .gpus = {1, 2}, .gpu_reach = 2}));
  v1::GetStatusResponse found;
  REQUIRE_OK(cluster->AwaitStatus("two GPUs and a host",
                                  [&](const v1::GetStatusResponse& status) {
                                    found = status;
                                    return status.agents_size() == 3;
                                  }));
  const v1::AgentStatus& gpu = found.agents(0);
  CHECK(gpu.device() == "cuda@0000:00:00.0");
  CHECK(found.agents(1).device() == "cuda@0000:00:02.0");
  CHECK(absl::StrContains(gpu.device_description(), "fake GPU"));
  CHECK(absl::StrContains(gpu.device_description(), "driver 13.1"));
  // kContextBytes of the fake.
  CHECK(absl::StrContains(gpu.device_description(), "context 524 MB"));
  CHECK(absl::StrContains(gpu.device_description(),
                          "MPS off (kernels of workers"));
  CHECK(found.agents(2).device() == "host");
  CHECK(found.agents(2).device_description().empty());
}

TEST_CASE("a checkpoint comes to GPUs by loads and syncs, byte by byte",
          "[integration][gpu]") {
  std::vector<std::string> flags;
  SECTION("as it is lent") {}
  SECTION("pinned") { flags = {"--pin-lent"}; }
  ProcessGpuRuntime runtime;
  REQUIRE_OK_AND_ASSIGN(const auto gpu, GpuOfWorker::Open(runtime));
  REQUIRE_OK_AND_ASSIGN(const auto cluster,
                        TestCluster::Start({.nodes = 2,
                                            .agents_per_node = 2,
                                            .gpus = {0, 1, 2},
                                            .agent_flags = std::move(flags)}));
  CheckpointRig::Options options;
  options.pipe = 1;
  options.rollout_tensor = 2;
  options.read_device = [&](PinnedVersion& pin) { return gpu->Read(pin); };
  // The trainer's shards are in memory of the host, of agents with GPUs too.
  REQUIRE_OK_AND_ASSIGN(const auto rig,
                        CheckpointRig::Start(*cluster, options));
  REQUIRE_OK(rig->Load());
  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult synced, rig->Sync());
  REQUIRE_OK_AND_ASSIGN(const int64_t compared,
                        rig->CheckRollout(synced.version(), /*flips=*/0));
  CHECK(compared > 100'000);
  // Then once more, straight from the files to the GPUs.
  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult loaded, rig->Load("rollout"));
  REQUIRE_OK(rig->CheckRollout(loaded.version(), /*flips=*/0));
}

TEST_CASE("lent memory that cannot be pinned is refused with the reason",
          "[integration][gpu]") {
  ::setenv("SLUICE_FAKE_GPU_PIN_BYTES", "4096", 1);
  const auto cluster = TestCluster::Start({.nodes = 1,
                                           .agents_per_node = 2,
                                           .gpus = {0},
                                           .agent_flags = {"--pin-lent"}});
  ::unsetenv("SLUICE_FAKE_GPU_PIN_BYTES");
  REQUIRE_OK(cluster);
  CheckpointRig::Options options;
  options.pipe = options.data = 1;
  options.rollout_data = 1;
  options.rollout_tensor = 2;
  CHECK_THAT(CheckpointRig::Start(**cluster, options),
             StatusIs(absl::StatusCode::kResourceExhausted, "lends"));
}

}  // namespace
}  // namespace sluice::testing
