#ifndef SLUICE_TESTS_AGENT_GATED_DEVICE_H_
#define SLUICE_TESTS_AGENT_GATED_DEVICE_H_

// A device of the host's memory that makes and unmakes it while its gates are
// open, and has only so much of it.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "agent/device/device.h"
#include "agent/device/host_device.h"
#include "agent/device/mapped_memory.h"
#include "agent/device/unique_fd.h"
#include "common/mutex.h"

namespace sluice::agent {

// What only a hang takes.
inline constexpr absl::Duration kHang = absl::Seconds(10);

// Thread-safe. Open at first.
class Gate {
 public:
  void Shut() {
    MutexLock lock(mutex_);
    open_ = false;
  }
  void Open() {
    MutexLock lock(mutex_);
    open_ = true;
    changed_.SignalAll();
  }
  // Waits until it is open.
  void Pass() {
    MutexLock lock(mutex_);
    ++arrived_;
    changed_.SignalAll();
    while (!open_) changed_.Wait(mutex_);
  }
  int arrived() const {
    MutexLock lock(mutex_);
    return arrived_;
  }
  // Waits until so many have come, let through or not; false: they do not.
  bool AwaitArrivals(int count, absl::Duration patience = kHang) {
    MutexLock lock(mutex_);
    while (arrived_ < count) {
      if (!changed_.WaitFor(mutex_, patience)) break;
    }
    return arrived_ >= count;
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  bool open_ ABSL_GUARDED_BY(mutex_) = true;
  int arrived_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Shuts a gate until the end of its scope, also one that a failed check leaves:
// nobody is left waiting.
class ShutGate {
 public:
  explicit ShutGate(Gate& gate) : gate_(gate) { gate_.Shut(); }
  ~ShutGate() { gate_.Open(); }
  ShutGate(const ShutGate&) = delete;
  ShutGate& operator=(const ShutGate&) = delete;

 private:
  Gate& gate_;
};

// Thread-safe. Outlives its memory.
class GatedDevice final : public Device {
 public:
  Gate making, unmaking;

  explicit GatedDevice(
      int64_t capacity_bytes = std::numeric_limits<int64_t>::max())
      : capacity_bytes_(capacity_bytes) {}

  std::string Kind() const override { return "gated"; }
  absl::StatusOr<std::shared_ptr<MappedMemory>> Allocate(
      int64_t bytes, absl::string_view label) override {
    making.Pass();
    {
      MutexLock lock(mutex_);
      if (bytes > capacity_bytes_ - live_bytes_) {
        return absl::ResourceExhaustedError("the device is full");
      }
      live_bytes_ += bytes;
    }
    auto memory = host_.Allocate(bytes, label);
    if (!memory.ok()) return memory.status();
    return std::make_shared<Memory>(*this, *std::move(memory));
  }
  absl::StatusOr<std::shared_ptr<MappedMemory>> Adopt(UniqueFd fd) override {
    return host_.Adopt(std::move(fd));
  }

  int64_t live_bytes() const {
    MutexLock lock(mutex_);
    return live_bytes_;
  }
  // Waits until all of its memory is gone; false: some stays.
  bool AwaitEmpty() {
    MutexLock lock(mutex_);
    while (live_bytes_ > 0) {
      if (!changed_.WaitFor(mutex_, kHang)) break;
    }
    return live_bytes_ == 0;
  }

 private:
  class Memory final : public MappedMemory {
   public:
    Memory(GatedDevice& device, std::shared_ptr<MappedMemory> host)
        : device_(device), host_(std::move(host)) {}
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() override {
      device_.unmaking.Pass();
      MutexLock lock(device_.mutex_);
      device_.live_bytes_ -= host_->size();
      device_.changed_.SignalAll();
    }
    std::byte* data() const override { return host_->data(); }
    int64_t size() const override { return host_->size(); }
    // Its pages are there.
    MemorySpace space() const override { return MemorySpace::kPinned; }
    int descriptor() const override { return host_->descriptor(); }

   private:
    GatedDevice& device_;
    const std::shared_ptr<MappedMemory> host_;
  };

  const int64_t capacity_bytes_;
  HostDevice host_;
  mutable Mutex mutex_;
  CondVar changed_;
  int64_t live_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace sluice::agent

#endif  // SLUICE_TESTS_AGENT_GATED_DEVICE_H_
