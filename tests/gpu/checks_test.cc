// The checks of tests/gpu, on a GPU made of host memory: that they pass there,
// end with nothing held, and can fail.

#include "tests/gpu/checks.h"

#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <thread>

#include "absl/status/status.h"
#include "agent/cuda/cuda_status.h"
#include "agent/device/unique_fd.h"
#include "tests/fakes/cuda/fake_cuda_runtime.h"
#include "tests/support/status_matchers.h"

namespace sluice::gpu_tests {
namespace {

using agent::UniqueFd;
using agent::cuda::CudaHoldings;
using agent::cuda::FakeCudaRuntime;
using agent::cuda::FakeGpu;

constexpr int64_t kElements = 40000;

TEST_CASE("all checks pass on a GPU of host memory", "[gpu]") {
  for (const Check& check : LocalChecks()) {
    FakeGpu gpu;
    FakeCudaRuntime runtime(&gpu, 1);
    CAPTURE(check.name);
    CHECK_OK(check.run({.runtime = &runtime, .elements = kElements}));
    CHECK(gpu.holdings() == CudaHoldings{});
  }
}

TEST_CASE("a check fails where a call fails, and holds nothing", "[gpu]") {
  for (const Check& check : LocalChecks()) {
    for (int call = 0; call < 12; ++call) {
      FakeGpu gpu;
      FakeCudaRuntime runtime(&gpu, 1);
      gpu.FailCall(call, agent::cuda::kCudaMemoryAllocation);
      CAPTURE(check.name, call);
      const absl::Status status =
          check.run({.runtime = &runtime, .elements = 2000});
      CHECK(status.ok() == !gpu.Failed());
      CHECK(gpu.holdings() == CudaHoldings{});
    }
  }
}

TEST_CASE("two processes lend, adopt and hand over both ways", "[gpu]") {
  FakeGpu gpu;
  FakeCudaRuntime lender(&gpu, 1);
  FakeCudaRuntime borrower(&gpu, 2);
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  UniqueFd near(ends[0]);
  const UniqueFd far(ends[1]);
  absl::Status lent;
  std::thread other([&] {
    lent = RunLender({.runtime = &lender, .elements = kElements}, far.get());
  });
  const absl::Status borrowed =
      RunBorrower({.runtime = &borrower, .elements = kElements}, near.get());
  near.Reset(-1);
  other.join();
  CHECK_OK(borrowed);
  CHECK_OK(lent);
  CHECK(gpu.holdings() == CudaHoldings{});
  CHECK(gpu.early_unmappings() == 0);
}

}  // namespace
}  // namespace sluice::gpu_tests
