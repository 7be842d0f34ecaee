// The executor over a fake GPU: places of the host, pinned and of the device on
// either side, with what must arrive known beforehand.

#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/cuda/cuda_device.h"
#include "agent/cuda/cuda_piece_mover.h"
#include "agent/cuda/cuda_runtime.h"
#include "agent/device/host_device.h"
#include "agent/device/mapped_memory.h"
#include "tests/agent/executor/mini_cluster.h"
#include "tests/agent/executor/random_plan.h"
#include "tests/fakes/cuda/held_gpu.h"
#include "tests/fakes/cuda/process_gpu.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;

constexpr OperationId kOperation(5);
constexpr int kRanks = 5;
// Alone on its node, without a GPU.
constexpr int kHostRank = 4;

class PinnedMemory final : public MappedMemory {
 public:
  PinnedMemory(cuda::CudaRuntime& runtime, int64_t bytes)
      : runtime_(runtime),
        data_(runtime.AllocatePinned(bytes).value()),
        size_(bytes) {}
  ~PinnedMemory() override { CHECK_OK(runtime_.FreePinned(data_)); }
  std::byte* data() const override { return static_cast<std::byte*>(data_); }
  int64_t size() const override { return size_; }
  MemorySpace space() const override { return MemorySpace::kPinned; }

 private:
  cuda::CudaRuntime& runtime_;
  void* const data_;
  const int64_t size_;
};

// One GPU, which ranks 0 to 3 share.
class Gpu {
 public:
  explicit Gpu(uint64_t seed) : random_(seed) {}

  MiniCluster::Hardware Hardware() {
    return {[this](int rank) -> PieceMover* {
              return rank == kHostRank ? nullptr : &mover_;
            },
            [this](int rank, bool, int64_t bytes) {
              return NewMemory(rank == kHostRank ? MemorySpace::kHost : Any(),
                               bytes);
            }};
  }
  std::shared_ptr<MappedMemory> NewMemory(MemorySpace space, int64_t bytes) {
    switch (space) {
      case MemorySpace::kHost:
        return HostDevice().Allocate(bytes, "test").value();
      case MemorySpace::kPinned:
        return std::make_shared<PinnedMemory>(runtime_, bytes);
      case MemorySpace::kDevice:
        break;
    }
    return device_->Allocate(bytes, "test").value();
  }
  cuda::ProcessGpuRuntime& runtime() { return runtime_; }

 private:
  MemorySpace Any() { return static_cast<MemorySpace>(random_() % 3); }

  std::mt19937_64 random_;
  cuda::ProcessGpuRuntime runtime_;
  std::unique_ptr<cuda::CudaDevice> device_ =
      cuda::CudaDevice::Open(&runtime_, 0).value();
  cuda::CudaPieceMover mover_{&runtime_, 0, /*max_blocks=*/3};
};

TEST_CASE("random plans arrive between memories of all spaces",
          "[cuda_executor]") {
  std::mt19937_64 random(Catch::rngSeed() + 1);
  for (int round = 0; round < 12; ++round) {
    CAPTURE(round);
    Gpu gpu(random());
    MiniCluster cluster({0, 0, 1, 1, 2}, random(), gpu.Hardware());
    cluster.Bind(kOperation, RandomPlan(random, kRanks));
    for (int r = 0; r < kRanks; ++r) {
      cluster.request(r).digests = round % 4 != 3;
    }
    cluster.PrepareAll();
    cluster.StartAll();
    for (int r = 0; r < kRanks; ++r) {
      CAPTURE(r);
      REQUIRE_OK(cluster.Wait(r).status);
    }
    CHECK(cluster.CheckDestinations() == "");
    cluster.ReleaseAll();
  }
}

TestTransfer Plain(uint32_t id, int source, int destination, DType dtype) {
  TestTransfer t;
  t.id = id;
  t.source = source;
  t.destination = destination;
  t.tensors.push_back({"w", dtype, {300, 1000}, Box::Whole({300, 1000})});
  return t;
}

TEST_CASE("each pair of spaces, inside a node and between nodes",
          "[cuda_executor]") {
  constexpr MemorySpace kSpaces[] = {MemorySpace::kHost, MemorySpace::kPinned,
                                     MemorySpace::kDevice};
  for (const MemorySpace from : kSpaces) {
    for (const MemorySpace to : kSpaces) {
      CAPTURE(static_cast<int>(from), static_cast<int>(to));
      Gpu gpu(1);
      MiniCluster::Hardware hardware = gpu.Hardware();
      hardware.memory = [&](int, bool source, int64_t bytes) {
        return gpu.NewMemory(source ? from : to, bytes);
      };
      MiniCluster cluster({0, 0, 1}, Catch::rngSeed(), hardware);
      cluster.Bind(kOperation,
                   {Plain(0, 0, 0, DType::kBF16), Plain(1, 0, 1, DType::kF32),
                    Plain(2, 0, 2, DType::kU8)});
      cluster.PrepareAll();
      cluster.StartAll();
      for (int r = 0; r < 3; ++r) REQUIRE_OK(cluster.Wait(r).status);
      CHECK(cluster.CheckDestinations() == "");
      cluster.ReleaseAll();
    }
  }
}

TEST_CASE("a corrupted byte of the device is found where it lands",
          "[cuda_executor]") {
  Gpu gpu(1);
  MiniCluster::Hardware hardware = gpu.Hardware();
  hardware.memory = [&](int, bool, int64_t bytes) {
    return gpu.NewMemory(MemorySpace::kDevice, bytes);
  };
  MiniCluster cluster({0, 1}, Catch::rngSeed(), hardware);
  const auto plan = {Plain(0, 0, 1, DType::kF32)};
  cluster.Bind(OperationId(1), plan);
  for (int r = 0; r < 2; ++r) cluster.request(r).content_key = "policy@1";
  cluster.PrepareAll();
  cluster.StartAll();
  for (int r = 0; r < 2; ++r) REQUIRE_OK(cluster.Wait(r).status);
  cluster.ReleaseAll();

  // The source's digest is known; what is sent is not what it says.
  cluster.Bind(OperationId(2), plan);
  for (int r = 0; r < 2; ++r) cluster.request(r).content_key = "policy@1";
  cluster.CorruptSource(0);
  cluster.PrepareAll();
  cluster.StartAll();
  CHECK_THAT(cluster.Wait(1).status, StatusIs(absl::StatusCode::kDataLoss));
  cluster.ReleaseAll();
}

// Rank 0 on the host, rank 1 on a GPU of its own that a test can hold.
class HeldReceiver {
 public:
  MiniCluster::Hardware Hardware() {
    return {[this](int rank) -> PieceMover* {
              return rank == 1 ? &mover_ : nullptr;
            },
            [this](int rank, bool, int64_t bytes) {
              std::shared_ptr<MappedMemory> memory;
              if (rank == 1 && on_device) {
                memory = device_->Allocate(bytes, "test").value();
              } else {
                memory = HostDevice().Allocate(bytes, "test").value();
              }
              kept_.push_back(memory);
              return memory;
            }};
  }

  bool on_device = true;
  cuda::HeldGpu gpu;

 private:
  std::unique_ptr<cuda::CudaDevice> device_ =
      cuda::CudaDevice::Open(&gpu, 0).value();
  cuda::CudaPieceMover mover_{&gpu, 0, /*max_blocks=*/3};
  // Freeing would wait for a GPU that is held.
  std::vector<std::shared_ptr<MappedMemory>> kept_;
};

TEST_CASE("messages are carried on while the GPU unpacks others",
          "[cuda_executor]") {
  constexpr OperationId kHeld(1), kFree(2);
  HeldReceiver held;
  MiniCluster cluster({0, 1}, Catch::rngSeed(), held.Hardware());
  // Two messages, which is as many as are staged at a time.
  cluster.Bind(kHeld, {Plain(0, 0, 1, DType::kF32)});
  cluster.PrepareAll();
  held.gpu.Hold();
  cluster.StartAll();
  // Digests of both are queued before either has ended.
  const bool queued = held.gpu.WaitForQueued("DigestBoxes", 2);
  const size_t streams = held.gpu.Streams();

  // The transport's thread waits for no GPU: another operation goes through.
  held.on_device = false;
  cluster.Bind(kFree, {Plain(0, 0, 1, DType::kU8)});
  cluster.PrepareAll();
  cluster.StartAll();
  std::vector<absl::Status> free;
  for (int r = 0; r < 2; ++r) free.push_back(cluster.Wait(r).status);
  held.gpu.LetGo();

  CHECK(queued);
  CHECK(streams == 2);
  for (const absl::Status& status : free) CHECK_OK(status);
  CHECK(cluster.CheckDestinations() == "");
  for (int r = 0; r < 2; ++r) {
    CHECK_OK(cluster.Wait(r, kHeld).status);
    cluster.executor(r).Release(kHeld);
  }
  cluster.ReleaseAll();
}

TEST_CASE("an aborted operation ends when the GPU lets go of its memory",
          "[cuda_executor]") {
  HeldReceiver held;
  MiniCluster cluster({0, 1}, Catch::rngSeed(), held.Hardware());
  cluster.Bind(kOperation, {Plain(0, 0, 1, DType::kF32)});
  cluster.PrepareAll();
  held.gpu.Hold();
  cluster.StartAll();
  const bool queued = held.gpu.WaitForQueued("DigestBoxes", 2);
  cluster.executor(1).Abort(kOperation, absl::CancelledError("over"));
  const bool early = cluster.HasEnded(1);
  held.gpu.LetGo();
  CHECK(queued);
  CHECK(!early);
  CHECK_THAT(cluster.Wait(1).status, StatusIs(absl::StatusCode::kCancelled));
  cluster.Wait(0);
  cluster.ReleaseAll();
}

// 12 MB of F32: more than two chunks of a pull, less than one job.
TestTransfer Large(int source, int destination) {
  TestTransfer t = Plain(0, source, destination, DType::kF32);
  t.tensors[0].shape = {3000, 1000};
  t.tensors[0].box = Box::Whole({3000, 1000});
  return t;
}

TEST_CASE("the next chunk of a pull is copied while the last one is awaited",
          "[cuda_executor]") {
  // By copies within the GPU's reach, and by way of pinned memory.
  for (const MemorySpace from : {MemorySpace::kDevice, MemorySpace::kHost}) {
    CAPTURE(static_cast<int>(from));
    cuda::HeldGpu gpu;
    const auto device = cuda::CudaDevice::Open(&gpu, 0).value();
    cuda::CudaPieceMover mover(&gpu, 0, /*max_blocks=*/3);
    MiniCluster::Hardware hardware;
    hardware.mover = [&](int) { return &mover; };
    hardware.memory = [&](int, bool source, int64_t bytes) {
      return source && from == MemorySpace::kHost
                 ? HostDevice().Allocate(bytes, "test").value()
                 : device->Allocate(bytes, "test").value();
    };
    MiniCluster cluster({0, 0}, Catch::rngSeed(), hardware);
    cluster.Bind(kOperation, {Large(0, 1)});
    for (int r = 0; r < 2; ++r) cluster.request(r).digests = false;
    cluster.PrepareAll();
    gpu.Forget();
    gpu.Hold();
    cluster.StartAll();
    const bool queued = gpu.WaitForStreams(2);
    gpu.LetGo();
    CHECK(queued);
    for (int r = 0; r < 2; ++r) CHECK_OK(cluster.Wait(r).status);
    CHECK(cluster.CheckDestinations() == "");
    cluster.ReleaseAll();
  }
}

TEST_CASE("the next message is packed before the last one has left",
          "[cuda_executor]") {
  cuda::HeldGpu gpu;
  const auto device = cuda::CudaDevice::Open(&gpu, 0).value();
  cuda::CudaPieceMover mover(&gpu, 0, /*max_blocks=*/3);
  MiniCluster::Hardware hardware;
  hardware.mover = [&](int rank) { return rank == 0 ? &mover : nullptr; };
  hardware.memory = [&](int rank, bool, int64_t bytes) {
    return rank == 0 ? device->Allocate(bytes, "test").value()
                     : HostDevice().Allocate(bytes, "test").value();
  };
  MiniCluster cluster({0, 1}, Catch::rngSeed(), hardware);
  cluster.Bind(kOperation, {Large(0, 1)});
  for (int r = 0; r < 2; ++r) cluster.request(r).digests = false;
  cluster.PrepareAll();
  // Nobody receives: what is sent has not arrived.
  gpu.Forget();
  gpu.Hold();
  cluster.Start(0);
  const bool queued = gpu.WaitForStreams(2);
  gpu.LetGo();
  cluster.Start(1);
  CHECK(queued);
  for (int r = 0; r < 2; ++r) CHECK_OK(cluster.Wait(r).status);
  CHECK(cluster.CheckDestinations() == "");
  cluster.ReleaseAll();
}

}  // namespace
}  // namespace sluice::agent
