#include "agent/memory_worker.h"

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/core/effects.h"
#include "agent/device/mapped_memory.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "tests/agent/gated_device.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;
using MemoryPtr = std::shared_ptr<MappedMemory>;

// What a worker told. Thread-safe.
class Told {
 public:
  MemoryWorker::OnAllocated Listen() {
    return
        [this](const AllocateBuffer& order, absl::StatusOr<MemoryPtr> memory) {
          MutexLock lock(mutex_);
          buffers_.push_back(order.buffer);
          memories_.push_back(std::move(memory));
          changed_.SignalAll();
        };
  }
  // The n-th answer, counted from 0.
  absl::StatusOr<MemoryPtr> Take(size_t n) {
    MutexLock lock(mutex_);
    while (memories_.size() <= n) {
      if (!changed_.WaitFor(mutex_, kHang)) {
        return absl::DeadlineExceededError("no answer");
      }
    }
    return std::exchange(memories_[n], absl::UnknownError("taken"));
  }
  std::vector<BufferId> buffers() {
    MutexLock lock(mutex_);
    return buffers_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<BufferId> buffers_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::StatusOr<MemoryPtr>> memories_ ABSL_GUARDED_BY(mutex_);
};

AllocateBuffer Order(uint64_t id) { return {BufferId(id), 64, "test"}; }

TEST_CASE("one device is asked in order", "[agent][device]") {
  GatedDevice device(/*capacity_bytes=*/64);
  Told told;
  MemoryWorker worker(told.Listen());
  worker.Allocate(device, Order(1));
  REQUIRE_OK_AND_ASSIGN(MemoryPtr first, told.Take(0));
  worker.Free(BufferId(1), std::move(first));
  worker.Allocate(device, Order(2));
  worker.Allocate(device, Order(3));
  REQUIRE_OK_AND_ASSIGN(const MemoryPtr second, told.Take(1));
  CHECK_THAT(told.Take(2), StatusIs(Code::kResourceExhausted));
  CHECK(told.buffers() ==
        std::vector<BufferId>{BufferId(1), BufferId(2), BufferId(3)});
}

TEST_CASE("devices and what is lent do not wait for each other",
          "[agent][device]") {
  GatedDevice slow, quick, lender;
  Told told;
  MemoryWorker worker(told.Listen());
  const ShutGate shut(slow.making);
  worker.Allocate(slow, Order(1));
  worker.Allocate(quick, Order(2));
  REQUIRE_OK(told.Take(0));
  CHECK(told.buffers() == std::vector<BufferId>{BufferId(2)});
  REQUIRE_OK_AND_ASSIGN(MemoryPtr lent, lender.Allocate(64, "lent"));
  worker.Free(BufferId(kHostBufferBit | 1), std::move(lent));
  CHECK(lender.AwaitEmpty());
}

TEST_CASE("who waits for what is freed is told when all is",
          "[agent][device]") {
  GatedDevice device;
  Gate at_once, later;
  MemoryWorker worker([](const AllocateBuffer&, absl::StatusOr<MemoryPtr>) {});
  worker.WhenFreed([&] { at_once.Pass(); });
  CHECK(at_once.arrived() == 1);
  REQUIRE_OK_AND_ASSIGN(MemoryPtr first, device.Allocate(64, "a"));
  device.unmaking.Shut();
  worker.Free(BufferId(1), std::move(first));
  worker.WhenFreed([&] { later.Pass(); });
  worker.Free(BufferId(2), nullptr);  // unknown
  CHECK(later.arrived() == 0);
  device.unmaking.Open();
  CHECK(later.AwaitArrivals(1));
  CHECK(device.live_bytes() == 0);
}

TEST_CASE("at the end nothing is begun and nothing stays", "[agent][device]") {
  GatedDevice device;
  Told told;
  Gate freed;
  {
    MemoryWorker worker(told.Listen());
    const ShutGate shut(device.making);
    worker.Allocate(device, Order(1));
    worker.Allocate(device, Order(2));
    worker.Run([&] { freed.Pass(); });
    REQUIRE(device.making.AwaitArrivals(1));
    worker.EndAllocations();
  }
  CHECK_THAT(told.Take(0), StatusIs(Code::kUnavailable));
  CHECK_THAT(told.Take(1), StatusIs(Code::kUnavailable));
  CHECK(device.making.arrived() == 1);
  CHECK(device.live_bytes() == 0);
  CHECK(freed.arrived() == 1);
}

}  // namespace
}  // namespace sluice::agent
