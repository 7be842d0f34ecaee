// What gpu_tests checks of agents, proved with a GPU and an NCCL that are none.

#include "tests/gpu/agent_checks.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/fakes/cuda/process_gpu.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_dir.h"

namespace sluice::gpu_tests {
namespace {

using testing::IsOk;

std::string Absolute(const std::string& path) {
  return std::filesystem::absolute(path).string();
}

struct Rig {
  Rig() {
    ::setenv("SLUICE_NCCL_LIBRARY",
             Absolute("tests/fakes/nccl/libfake_nccl.so").c_str(), 1);
    ::setenv("SLUICE_FAKE_NCCL_DIR", dir.path().c_str(), 1);
    // One device for all: told apart by NCCL_HOSTID, or refused.
    ::setenv("SLUICE_FAKE_NCCL_DEVICE", "0", 1);
    settings.runtime = &runtime;
    settings.device = 3;
    settings.agent_binary = Absolute("tests/fakes/cuda/fake_gpu_agent");
    settings.elements = 100'000;
  }

  testing::TestDir dir;
  agent::cuda::ProcessGpuRuntime runtime;
  AgentSettings settings;
};

TEST_CASE("agents on one GPU reduce", "[gpu_checks]") {
  Rig rig;
  CHECK_OK(CheckOneRank(rig.settings));
  CHECK_OK(CheckSharedGpu(rig.settings));
}

TEST_CASE("agents on one GPU end well what is killed or aborted",
          "[gpu_checks]") {
  Rig rig;
  CHECK_OK(CheckKilledAgent(rig.settings));
  CHECK_OK(CheckAbortedGroup(rig.settings));
}

}  // namespace
}  // namespace sluice::gpu_tests
