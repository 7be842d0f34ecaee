// The cases of bench/gpu_bench on a GPU made of host memory: what they launch
// is what they verify. Nothing is measured.

#include "bench/gpu_cases.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/cuda_status.h"
#include "tests/fakes/cuda/fake_cuda_runtime.h"
#include "tests/support/status_matchers.h"

namespace sluice::bench {
namespace {

using agent::cuda::CudaHoldings;
using agent::cuda::FakeCudaRuntime;
using agent::cuda::FakeGpu;
using testing::IsOk;
using testing::StatusIs;

struct Rows {
  auto Taker() {
    return [this](const GpuMeasurement& m) { all.push_back(m); };
  }
  int failed() const {
    return static_cast<int>(
        std::count_if(all.begin(), all.end(),
                      [](const GpuMeasurement& m) { return !m.status.ok(); }));
  }
  std::vector<GpuMeasurement> all;
};

GpuBenchOptions Small(FakeCudaRuntime& runtime) {
  GpuBenchOptions options;
  options.runtime = &runtime;
  options.bytes = int64_t{4} << 20;
  options.repeats = 1;
  options.launches = 1;
  options.warm_up_seconds = 0;
  options.model_divisor = 32;
  options.small_tensors = 100;
  return options;
}

TEST_CASE("every case gives the bytes that it verifies", "[bench]") {
  FakeGpu gpu;
  FakeCudaRuntime runtime(&gpu, 1);
  Rows rows;
  CHECK_OK(RunGpuCases(Small(runtime), rows.Taker()));
  // 15 kernels with two numbers of blocks each, and a copy engine.
  CHECK(rows.all.size() == 31);
  for (const GpuMeasurement& m : rows.all) {
    CAPTURE(m.name, m.blocks);
    CHECK_OK(m.status);
    CHECK(m.bytes > 0);
    CHECK(m.ratio > 0);
    // Agents' own number is without a goal.
    if (m.blocks == 1) CHECK(m.goal == 0);
  }
  CHECK(gpu.holdings() == CudaHoldings{});
}

TEST_CASE("a GPU's error ends one case, and nothing is held", "[bench]") {
  bool one_of_many = false;
  bool none = false;
  for (const int call : {3, 60, 150}) {
    FakeGpu gpu;
    FakeCudaRuntime runtime(&gpu, 1);
    gpu.FailCall(call, agent::cuda::kCudaMemoryAllocation);
    GpuBenchOptions options = Small(runtime);
    options.blocks = {8};
    Rows rows;
    const absl::Status ran = RunGpuCases(options, rows.Taker());
    CAPTURE(call, ran);
    CHECK(gpu.holdings() == CudaHoldings{});
    if (!ran.ok()) {
      CHECK_THAT(ran, StatusIs(absl::StatusCode::kResourceExhausted));
      CHECK(rows.all.empty());
      none = true;
      continue;
    }
    CHECK(rows.all.size() == 16);
    CHECK(rows.failed() == 1);
    one_of_many = true;
  }
  CHECK(none);
  CHECK(one_of_many);
}

TEST_CASE("an error that stays ends the run with what there is", "[bench]") {
  FakeGpu gpu;
  FakeCudaRuntime runtime(&gpu, 1);
  gpu.FailCall(60, agent::cuda::kCudaMemoryAllocation);
  std::vector<GpuMeasurement> rows;
  const absl::Status ran =
      RunGpuCases(Small(runtime), [&](const GpuMeasurement& m) {
        rows.push_back(m);
        if (!m.status.ok()) gpu.FailCall(0, agent::cuda::kCudaInvalidContext);
      });
  CHECK_THAT(ran, StatusIs(absl::StatusCode::kInvalidArgument, "no more work"));
  REQUIRE(rows.size() > 1);
  CHECK(rows.size() < 31);
  CHECK_OK(rows.front().status);
  CHECK_FALSE(rows.back().status.ok());
  CHECK(gpu.holdings() == CudaHoldings{});
}

TEST_CASE("a process that lends nothing fails its own row", "[bench]") {
  FakeGpu gpu;
  FakeCudaRuntime runtime(&gpu, 1);
  GpuBenchOptions options = Small(runtime);
  options.blocks = {3};
  options.lender = []() -> absl::StatusOr<int> {
    return absl::InternalError("no process");
  };
  Rows rows;
  CHECK_OK(RunGpuCases(options, rows.Taker()));
  CHECK(rows.all.size() == 17);
  CHECK(rows.failed() == 1);
  for (const GpuMeasurement& m : rows.all) {
    CAPTURE(m.name);
    CHECK((m.blocks == 0 || m.blocks == 3));
    if (m.name != "copy from another process") continue;
    CHECK_THAT(m.status, StatusIs(absl::StatusCode::kInternal, "no process"));
  }
}

}  // namespace
}  // namespace sluice::bench
