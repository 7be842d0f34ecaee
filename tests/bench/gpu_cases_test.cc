// The cases of bench/gpu_bench on a GPU made of host memory: what they launch
// is what they verify. Nothing is measured.

#include "bench/gpu_cases.h"

#include <catch2/catch.hpp>

#include "absl/status/status.h"
#include "agent/cuda/cuda_status.h"
#include "tests/fakes/cuda/fake_cuda_runtime.h"
#include "tests/support/status_matchers.h"

namespace sluice::bench {
namespace {

using agent::cuda::CudaHoldings;
using agent::cuda::FakeCudaRuntime;
using agent::cuda::FakeGpu;

GpuBenchOptions Small(FakeCudaRuntime& runtime) {
  GpuBenchOptions options;
  options.runtime = &runtime;
  options.bytes = int64_t{4} << 20;
  options.repeats = 1;
  options.launches = 1;
  options.model_divisor = 32;
  options.small_tensors = 100;
  return options;
}

TEST_CASE("every case gives the bytes that it verifies", "[bench]") {
  FakeGpu gpu;
  FakeCudaRuntime runtime(&gpu, 1);
  REQUIRE_OK_AND_ASSIGN(const auto results, RunGpuCases(Small(runtime)));
  CHECK(results.size() == 15);
  for (const GpuMeasurement& m : results) {
    CAPTURE(m.name);
    CHECK(m.bytes > 0);
    CHECK(m.ratio > 0);
  }
  CHECK(gpu.holdings() == CudaHoldings{});
}

TEST_CASE("a case ends with the GPU's error, and holds nothing", "[bench]") {
  for (const int call : {0, 3, 9, 40}) {
    FakeGpu gpu;
    FakeCudaRuntime runtime(&gpu, 1);
    gpu.FailCall(call, agent::cuda::kCudaMemoryAllocation);
    CHECK_THAT(RunGpuCases(Small(runtime)),
               testing::StatusIs(absl::StatusCode::kResourceExhausted));
    CHECK(gpu.holdings() == CudaHoldings{});
  }
}

}  // namespace
}  // namespace sluice::bench
