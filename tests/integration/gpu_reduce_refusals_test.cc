// Reduce groups of GPUs that cannot be: who is named, and that all hear it.

#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "client/cpp/reduce_group.h"
#include "proto/sluice/v1/status_service.pb.h"
#include "tests/integration/gpu_reduce_rig.h"
#include "tests/integration/gpu_tensors.h"
#include "tests/integration/reduce_ranks.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

using Code = absl::StatusCode;

TEST_CASE("different versions of NCCL are told to all, naming two agents",
          "[integration][gpu_reduce]") {
  GpuReduceRig rig(3);
  REQUIRE_OK(rig.cluster().KillAgent(1));
  ::setenv("SLUICE_FAKE_NCCL_VERSION", "22703", 1);
  const absl::Status restarted = rig.cluster().RestartAgent(1);
  ::unsetenv("SLUICE_FAKE_NCCL_VERSION");
  REQUIRE_OK(restarted);
  REQUIRE_OK(rig.cluster().AwaitAllAlive());
  REQUIRE_OK(rig.cluster().AwaitStatus(
      "versions", [](const v1::GetStatusResponse& status) {
        return absl::StrContains(status.agents(0).device_description(),
                                 "NCCL 2.28.9") &&
               absl::StrContains(status.agents(1).device_description(),
                                 "NCCL 2.27.3");
      }));
  const auto options = rig.Options(rig.all(), "g");
  for (const absl::Status& status : rig.TryJoin({options, options, options})) {
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-0"));
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-1"));
  }
}

TEST_CASE("a GPU of two agents is told to all, naming both",
          "[integration][gpu_reduce]") {
  GpuReduceRig rig(3, /*gpus=*/{0, 1, 0});
  const auto options = rig.Options(rig.all(), "g");
  for (const absl::Status& status : rig.TryJoin({options, options, options})) {
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-0"));
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-2"));
  }
}

TEST_CASE("a group of GPUs and of host memory in one are told of each other",
          "[integration][gpu_reduce]") {
  GpuReduceRig rig(2);
  const auto gpu = rig.Options(rig.all(), "g");
  ReduceGroupOptions host = gpu;
  host.space = v1::REDUCE_SPACE_HOST;
  for (const absl::Status& status : rig.TryJoin({gpu, host})) {
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-0"));
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, "agent-1"));
  }
}

TEST_CASE("memory that is not this GPU's is refused, and why is told to all",
          "[integration][gpu_reduce]") {
  GpuReduceRig rig(2);
  REQUIRE_OK_AND_ASSIGN(ReduceRanks ranks, rig.Join(rig.all(), "g"));
  CHECK_THAT(ranks[0]->Allocate(64), StatusIs(Code::kInvalidArgument, "host"));
  WorkerGpu& gpu = rig.gpu(0);
  REQUIRE_OK(gpu.Use());
  REQUIRE_OK_AND_ASSIGN(void* const memory, gpu.runtime().Allocate(1 << 16));
  REQUIRE_OK_AND_ASSIGN(const GpuMemory good, gpu.Describe(memory, 1 << 16));
  GpuMemory bad = good;
  bad.bus_id = "0000:00:07.0";
  CHECK_THAT(ranks[0]->LendGpu(bad),
             StatusIs(Code::kInvalidArgument, "0000:00:07.0"));
  bad = good;
  bad.size_bytes = 1 << 17;
  CHECK_THAT(ranks[0]->LendGpu(bad), StatusIs(Code::kInvalidArgument));
  bad = good;
  bad.handle.resize(8);
  CHECK_THAT(ranks[0]->LendGpu(bad), StatusIs(Code::kInvalidArgument, "64"));
  bad = good;
  bad.event = std::string(64, 'x');
  CHECK_THAT(ranks[0]->LendGpu(bad), StatusIs(Code::kInvalidArgument, "event"));
  CHECK_OK(ranks[0]->LendGpu(good));
  // Freed before it was lent.
  REQUIRE_OK_AND_ASSIGN(void* const freed, gpu.runtime().Allocate(1 << 16));
  REQUIRE_OK_AND_ASSIGN(const GpuMemory gone, gpu.Describe(freed, 1 << 16));
  REQUIRE_OK(gpu.runtime().Free(freed));
  CHECK_THAT(ranks[0]->LendGpu(gone), StatusIs(Code::kInvalidArgument));
  REQUIRE_OK(gpu.runtime().Free(memory));
}

// Joins all agents to one group, which a member's agent cannot be in. Long
// before the deadline, which no test would live to see.
void CheckRefused(GpuReduceRig& rig, const std::string& who,
                  const std::string& why) {
  auto options = rig.Options(rig.all(), "g");
  options.deadline = absl::Hours(1);
  const std::vector<ReduceGroupOptions> all(rig.all().size(), options);
  for (const absl::Status& status : rig.TryJoin(all)) {
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, who));
    CHECK_THAT(status, StatusIs(Code::kFailedPrecondition, why));
  }
}

TEST_CASE("an agent that serves host memory is in no group of GPUs: all hear",
          "[integration][gpu_reduce]") {
  GpuReduceRig rig(3, /*gpus=*/{0, 1});
  CheckRefused(rig, "\"agent-2\" (rank 2) cannot join", "--device cuda");
  // The others do without it.
  REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks, rig.Join({0, 1}, "g"));
  ReduceAllTypes(rig, {0, 1}, ranks);
}

TEST_CASE("an agent without NCCL is in no group of GPUs: all hear",
          "[integration][gpu_reduce]") {
  GpuReduceRig rig(3);
  REQUIRE_OK(rig.cluster().KillAgent(0));
  const std::string library = ::getenv("SLUICE_NCCL_LIBRARY");
  ::setenv("SLUICE_NCCL_LIBRARY", "/nowhere/libnccl.so.2", 1);
  const absl::Status restarted = rig.cluster().RestartAgent(0);
  ::setenv("SLUICE_NCCL_LIBRARY", library.c_str(), 1);
  REQUIRE_OK(restarted);
  REQUIRE_OK(rig.cluster().AwaitStatus(
      "agent-0 without NCCL", [](const v1::GetStatusResponse& status) {
        return absl::StrContains(status.agents(0).device_description(),
                                 "no NCCL");
      }));
  REQUIRE_OK(rig.cluster().AwaitAllAlive());
  CheckRefused(rig, "\"agent-0\" (rank 0) cannot join",
               "/nowhere/libnccl.so.2");
}

}  // namespace
}  // namespace sluice::testing
