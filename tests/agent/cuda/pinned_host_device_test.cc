#include "agent/cuda/pinned_host_device.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "agent/cuda/cuda_status.h"
#include "agent/cuda/handles.h"
#include "agent/device/mapped_memory.h"
#include "agent/device/memory_file.h"
#include "agent/device/unique_fd.h"
#include "tests/fakes/cuda/fake_cuda_runtime.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent::cuda {
namespace {

using ::sluice::testing::StatusIs;

constexpr int64_t kBytes = 1 << 16;

TEST_CASE("pinned arenas are mapped by descriptor and reached by the GPU",
          "[cuda]") {
  FakeGpu gpu;
  FakeCudaRuntime runtime(&gpu, 1);
  PinnedHostDevice device(&runtime, 0);
  REQUIRE_OK_AND_ASSIGN(auto arena, device.Allocate(kBytes, "arena"));
  CHECK(arena->space() == MemorySpace::kPinned);
  CHECK(gpu.holdings().pinned == 1);
  REQUIRE_OK_AND_ASSIGN(
      auto peer, MapMemoryFile(UniqueFd(dup(arena->descriptor())), kBytes,
                               Access::kReadWrite));
  std::memset(arena->data(), 7, kBytes);
  CHECK(peer->data()[kBytes - 1] == std::byte{7});
  // A copy is queued, as between pinned memories, and not over at once.
  REQUIRE_OK_AND_ASSIGN(const auto stream, CudaStream::Create(runtime, 0));
  REQUIRE_OK_AND_ASSIGN(auto other, device.Allocate(kBytes, "other"));
  std::memset(other->data(), 0, kBytes);
  REQUIRE_OK(runtime.Copy(other->data(), arena->data(), kBytes, stream.get()));
  CHECK(other->data()[0] == std::byte{0});
  // What is queued ends before the memory goes.
  arena.reset();
  CHECK(other->data()[0] == std::byte{7});
  CHECK(gpu.early_unmappings() == 0);
  other.reset();
  CHECK(gpu.holdings().pinned == 0);
}

TEST_CASE("memory that a worker lends is pinned while it is lent", "[cuda]") {
  FakeGpu gpu;
  FakeCudaRuntime runtime(&gpu, 1);
  PinnedHostDevice device(&runtime, 0);
  REQUIRE_OK_AND_ASSIGN(UniqueFd file, CreateMemoryFile(kBytes, "lent"));
  REQUIRE_OK_AND_ASSIGN(auto worker, MapMemoryFile(UniqueFd(dup(file.get())),
                                                   kBytes, Access::kReadWrite));
  REQUIRE_OK_AND_ASSIGN(auto lent, device.Adopt(UniqueFd(dup(file.get()))));
  CHECK(lent->space() == MemorySpace::kPinned);
  CHECK(gpu.holdings().pinned == 1);
  std::memset(worker->data(), 5, kBytes);
  CHECK(lent->data()[kBytes - 1] == std::byte{5});
  lent.reset();
  CHECK(gpu.holdings() == CudaHoldings{});
  gpu.FailCall(0, kCudaMemoryAllocation);
  CHECK_THAT(device.Adopt(std::move(file)),
             StatusIs(absl::StatusCode::kResourceExhausted, "lends"));
  CHECK(gpu.Failed());
  CHECK(gpu.holdings() == CudaHoldings{});
}

TEST_CASE("memory that cannot be pinned is given back", "[cuda]") {
  FakeGpu gpu;
  FakeCudaRuntime runtime(&gpu, 1);
  PinnedHostDevice device(&runtime, 0);
  gpu.FailCall(0, kCudaMemoryAllocation);
  CHECK_THAT(device.Allocate(kBytes, "arena"),
             StatusIs(absl::StatusCode::kResourceExhausted, "arena"));
  CHECK(gpu.Failed());
  CHECK(gpu.holdings() == CudaHoldings{});
}

}  // namespace
}  // namespace sluice::agent::cuda
