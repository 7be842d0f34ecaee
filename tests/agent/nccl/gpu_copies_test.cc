// Copies of reduce groups on a GPU of host memory, whose streams run what is
// queued only when somebody waits for it.

#include "agent/nccl/gpu_copies.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "tests/fakes/cuda/fake_cuda_runtime.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::IsOk;
using testing::StatusIs;
using Code = absl::StatusCode;

constexpr int64_t kBytes = 1 << 14;

// A worker's process and an agent's on one GPU.
struct Rig {
  Rig() {
    REQUIRE_OK_AND_ASSIGN(device, cuda::CudaDevice::Open(&agent, 0));
    seat.emplace(GpuSeat{agent, *device, 0});
    REQUIRE_OK_AND_ASSIGN(auto s, cuda::CudaStream::Create(worker, 0));
    stream.emplace(std::move(s));
    REQUIRE_OK_AND_ASSIGN(
        auto e,
        cuda::CudaEvent::Create(worker, 0, cuda::EventKind::kInterprocess));
    event.emplace(std::move(e));
    REQUIRE_OK_AND_ASSIGN(memory, worker.Allocate(kBytes));
    REQUIRE_OK_AND_ASSIGN(pinned, worker.AllocatePinned(kBytes));
  }
  ~Rig() {
    CHECK_OK(worker.Free(memory));
    CHECK_OK(worker.FreePinned(pinned));
  }

  GpuMemoryOffer Offer() {
    GpuMemoryOffer offer;
    REQUIRE_OK_AND_ASSIGN(offer.range,
                          cuda::ShareRange(worker, memory, kBytes));
    REQUIRE_OK_AND_ASSIGN(offer.event.emplace(), event->Export());
    offer.bus_id = "0000:00:00.0";
    return offer;
  }

  cuda::FakeGpu gpu;
  cuda::FakeCudaRuntime worker{&gpu, /*process=*/1};
  cuda::FakeCudaRuntime agent{&gpu, /*process=*/2};
  std::unique_ptr<cuda::CudaDevice> device;
  std::optional<GpuSeat> seat;
  std::optional<cuda::CudaStream> stream;  // of the worker
  std::optional<cuda::CudaEvent> event;    // of the worker
  void* memory = nullptr;                  // of the worker
  void* pinned = nullptr;                  // of the worker
};

TEST_CASE(
    "copies come behind what the worker wrote, and the worker behind "
    "them",
    "[nccl][gpu_copies]") {
  Rig rig;
  REQUIRE_OK_AND_ASSIGN(const auto lent,
                        AdoptGpuMemory(*rig.seat, rig.Offer()));
  REQUIRE_OK_AND_ASSIGN(auto copies, MakeGpuReduceCopies(*rig.seat, *rig.device,
                                                         /*max_blocks=*/4));
  REQUIRE_OK_AND_ASSIGN(const auto bucket,
                        copies->device().Allocate(kBytes, "bucket"));
  auto* host = static_cast<unsigned char*>(rig.pinned);
  for (int round = 1; round <= 3; ++round) {
    CAPTURE(round);
    // The worker writes, which runs when it synchronises.
    for (int64_t i = 0; i < kBytes; ++i) {
      host[i] = static_cast<unsigned char>(i * 7 + round);
    }
    REQUIRE_OK(
        rig.worker.Copy(rig.memory, rig.pinned, kBytes, rig.stream->get()));
    REQUIRE_OK(rig.event->Record(*rig.stream));
    REQUIRE_OK_AND_ASSIGN(const bool early, lent->IsHandedOver());
    CHECK_FALSE(early);
    REQUIRE_OK(rig.worker.Synchronize(rig.stream->get()));
    REQUIRE_OK_AND_ASSIGN(const bool there, lent->IsHandedOver());
    CHECK(there);
    // Two halves change places on the way into the bucket; odd lengths.
    const int64_t half = kBytes / 2 + 3;
    REQUIRE_OK(
        copies->Copy(bucket->data(), lent->data() + half, kBytes - half));
    REQUIRE_OK(
        copies->Copy(bucket->data() + kBytes - half, lent->data(), half));
    REQUIRE_OK_AND_ASSIGN(const std::shared_ptr<void> after, copies->SendOff());
    // As a collective does: behind that, on a stream of its own.
    REQUIRE_OK_AND_ASSIGN(const auto other,
                          cuda::CudaStream::Create(rig.agent, 0));
    REQUIRE_OK(rig.agent.Wait(other.get(), after.get()));
    REQUIRE_OK(rig.agent.Fill(bucket->data(), 0xab, 16, other.get()));
    REQUIRE_OK(rig.agent.Synchronize(other.get()));
    // And back, at another place.
    REQUIRE_OK(copies->Copy(lent->data(), bucket->data(), kBytes));
    REQUIRE_OK(copies->Deliver());
    cuda::IpcHandle handle{};
    const std::string bytes = copies->ready_handle();
    REQUIRE(bytes.size() == handle.size());
    std::copy(bytes.begin(), bytes.end(), handle.begin());
    REQUIRE_OK_AND_ASSIGN(const auto ready,
                          cuda::CudaEvent::Import(rig.worker, 0, handle));
    REQUIRE_OK(ready.HoldBack(*rig.stream));
    REQUIRE_OK(
        rig.worker.Copy(rig.pinned, rig.memory, kBytes, rig.stream->get()));
    REQUIRE_OK(rig.worker.Synchronize(rig.stream->get()));
    bool right = true;
    for (int64_t i = 16; i < kBytes; ++i) {
      const int64_t from = i < kBytes - half ? i + half : i - (kBytes - half);
      right = right && host[i] == static_cast<unsigned char>(from * 7 + round);
    }
    CHECK(right);
    CHECK(std::all_of(host, host + 16, [](auto b) { return b == 0xab; }));
  }
}

TEST_CASE("memory that cannot be adopted says why", "[nccl][gpu_copies]") {
  Rig rig;
  GpuMemoryOffer offer = rig.Offer();
  offer.bus_id = "0000:99:00.0";
  CHECK_THAT(AdoptGpuMemory(*rig.seat, offer),
             StatusIs(Code::kInvalidArgument, "0000:99:00.0"));
  offer = rig.Offer();
  offer.range.offset_bytes = kBytes;
  CHECK_THAT(AdoptGpuMemory(*rig.seat, offer),
             StatusIs(Code::kInvalidArgument));
  offer = rig.Offer();
  offer.event->fill('x');
  CHECK_THAT(AdoptGpuMemory(*rig.seat, offer),
             StatusIs(Code::kInvalidArgument, "event"));
  offer = rig.Offer();
  rig.gpu.EndProcess(1);
  CHECK_THAT(AdoptGpuMemory(*rig.seat, offer),
             StatusIs(Code::kInvalidArgument));
}

TEST_CASE("whatever fails, nothing is kept and nothing is begun after it",
          "[nccl][gpu_copies]") {
  bool failed = true;
  int refused = 0;
  for (int nth = 0; failed; ++nth) {
    CAPTURE(nth);
    Rig rig;
    const cuda::CudaHoldings before = rig.gpu.holdings();
    {
      const GpuMemoryOffer offer = rig.Offer();
      rig.gpu.FailCall(nth, /*cudaErrorMemoryAllocation=*/2);
      const auto run = [&]() -> absl::Status {
        auto lent = AdoptGpuMemory(*rig.seat, offer);
        if (!lent.ok()) return lent.status();
        auto copies =
            MakeGpuReduceCopies(*rig.seat, *rig.device, /*max_blocks=*/4);
        if (!copies.ok()) return copies.status();
        auto bucket = (*copies)->device().Allocate(kBytes, "bucket");
        if (!bucket.ok()) return bucket.status();
        absl::Status status = (*lent)->IsHandedOver().status();
        if (!status.ok()) {  // of the memory, not of the copies
          failed = rig.gpu.Failed();
          return status;
        }
        status.Update(
            (*copies)->Copy((*bucket)->data(), (*lent)->data(), kBytes));
        status.Update((*copies)->SendOff().status());
        status.Update((*copies)->Deliver());
        if (!status.ok()) CHECK_FALSE((*copies)->Deliver().ok());
        status.Update((*copies)->Drain());
        failed = rig.gpu.Failed();
        return status;
      };
      failed = true;
      const absl::Status status = run();
      CHECK(status.ok() != failed);
      if (!status.ok()) ++refused;
      rig.gpu.FailCall(-1, 0);
    }
    CHECK(rig.gpu.holdings() == before);
    CHECK(rig.gpu.early_unmappings() == 0);
  }
  CHECK(refused >= 10);
}

}  // namespace
}  // namespace sluice::agent
