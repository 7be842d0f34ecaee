// The quickstart on GPUs, proved with GPUs that are none.

#include "tests/gpu/quickstart_check.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "tests/support/status_matchers.h"

namespace sluice::gpu_tests {
namespace {

using testing::IsOk;
using testing::StatusIs;

std::string Absolute(const std::string& path) {
  return std::filesystem::absolute(path).string();
}

// Heads, rows and vocabulary divide by nothing.
QuickstartSettings OnFakeGpus(const std::string& device) {
  // The machine's own library is none for GPUs that are fakes.
  ::setenv("SLUICE_NCCL_LIBRARY", "none", 1);
  QuickstartSettings settings;
  settings.device = device;
  settings.checkpoint.layers = 3;
  settings.checkpoint.hidden = 56;
  settings.checkpoint.heads = 9;
  settings.checkpoint.kv_heads = 3;
  settings.checkpoint.head_dim = 8;
  settings.checkpoint.intermediate = 45;
  settings.checkpoint.vocab = 97;
  settings.quickstart_binary = Absolute("tests/fakes/cuda/fake_gpu_quickstart");
  settings.coordinator_binary = Absolute("coordinator/coordinator");
  settings.agent_binary = Absolute("tests/fakes/cuda/fake_gpu_agent");
  settings.worker_binary =
      Absolute("tests/fakes/cuda/fake_gpu_quickstart_worker");
  return settings;
}

TEST_CASE("the quickstart runs on one GPU and on several", "[gpu_checks]") {
  CHECK_OK(CheckQuickstart(OnFakeGpus("cuda:3")));
  CHECK_OK(CheckQuickstart(OnFakeGpus("cuda")));
}

TEST_CASE("a quickstart that fails is told why", "[gpu_checks]") {
  // There are eight.
  CHECK_THAT(CheckQuickstart(OnFakeGpus("cuda:8")),
             StatusIs(absl::StatusCode::kInternal, "--device cuda:8"));
  // A program that is no worker.
  QuickstartSettings settings = OnFakeGpus("cuda:0");
  settings.worker_binary = settings.coordinator_binary;
  CHECK_THAT(CheckQuickstart(settings),
             StatusIs(absl::StatusCode::kInternal, "trainer-0"));
}

}  // namespace
}  // namespace sluice::gpu_tests
