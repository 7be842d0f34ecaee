#include "agent/nccl/cuda_stream.h"

#include <catch2/catch.hpp>
#include <memory>

#include "absl/status/status.h"
#include "tests/fakes/cuda/fake_cuda_runtime.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::IsOk;

TEST_CASE("a stream of a GPU is marked, asked and given back", "[nccl]") {
  cuda::FakeGpu gpu;
  cuda::FakeCudaRuntime runtime(&gpu, /*process=*/1);
  REQUIRE_OK_AND_ASSIGN(const auto device, MakeCudaNcclDevice(runtime, 0));
  CHECK_FALSE(device->BusId().empty());
  CHECK_OK(device->Use());
  {
    REQUIRE_OK_AND_ASSIGN(const auto stream, device->NewStream());
    REQUIRE(stream->handle() != nullptr);
    REQUIRE_OK(stream->Record());
    // What is queued runs when somebody waits for it.
    REQUIRE_OK_AND_ASSIGN(const bool early, stream->Reached());
    CHECK_FALSE(early);
    REQUIRE_OK(runtime.Synchronize(stream->handle()));
    REQUIRE_OK_AND_ASSIGN(const bool late, stream->Reached());
    CHECK(late);
    CHECK(gpu.holdings().streams == 1);
    CHECK(gpu.holdings().allocations == 1);
  }
  CHECK(gpu.holdings() == cuda::CudaHoldings());
}

TEST_CASE("a stream that cannot be made leaves nothing behind", "[nccl]") {
  int refused = 0;
  for (int nth = 0; nth < 12; ++nth) {
    cuda::FakeGpu gpu;
    cuda::FakeCudaRuntime runtime(&gpu, /*process=*/1);
    REQUIRE_OK_AND_ASSIGN(const auto device, MakeCudaNcclDevice(runtime, 0));
    gpu.FailCall(nth, /*cudaErrorMemoryAllocation=*/2);
    const auto stream = device->NewStream();
    if (!stream.ok()) {
      ++refused;
      CHECK(gpu.holdings() == cuda::CudaHoldings());
    }
  }
  // Stream, event, memory, fill.
  CHECK(refused == 4);
}

}  // namespace
}  // namespace sluice::agent
