#include "agent/memory_worker.h"

#include <utility>

#include "absl/status/status.h"

namespace sluice::agent {

MemoryWorker::MemoryWorker(OnAllocated on_allocated)
    : on_allocated_(std::move(on_allocated)) {}

MemoryWorker::~MemoryWorker() {
  EndAllocations();
  for (auto& [device, lane] : lanes_) lane->Stop();
}

SerialExecutor& MemoryWorker::LaneOf(const Device* device) {
  std::unique_ptr<SerialExecutor>& lane = lanes_[device];
  if (lane == nullptr) lane = std::make_unique<SerialExecutor>("memory");
  return *lane;
}

void MemoryWorker::Allocate(Device& device, AllocateBuffer order) {
  {
    MutexLock lock(mutex_);
    devices_[order.buffer] = &device;
  }
  LaneOf(&device).Post([this, &device, order = std::move(order)] {
    const absl::Status stops = absl::UnavailableError("the agent stops");
    absl::StatusOr<std::shared_ptr<MappedMemory>> memory = stops;
    if (!stopping_) memory = device.Allocate(order.bytes, order.label);
    if (stopping_) memory = stops;
    if (!memory.ok()) {
      MutexLock lock(mutex_);
      devices_.erase(order.buffer);
    }
    on_allocated_(order, std::move(memory));
  });
}

void MemoryWorker::Free(BufferId buffer, std::shared_ptr<MappedMemory> memory) {
  const Device* device = nullptr;
  {
    MutexLock lock(mutex_);
    const auto it = devices_.find(buffer);
    if (it != devices_.end()) {
      device = it->second;
      devices_.erase(it);
    }
    ++freeing_;
  }
  LaneOf(device).Post([this, memory = std::move(memory)]() mutable {
    memory.reset();
    NoteFreed();
  });
}

void MemoryWorker::NoteFreed() {
  std::vector<Task> then;
  {
    MutexLock lock(mutex_);
    if (--freeing_ > 0) return;
    then.swap(when_freed_);
  }
  for (Task& task : then) std::move(task)();
}

void MemoryWorker::Run(Task task) { LaneOf(nullptr).Post(std::move(task)); }

void MemoryWorker::WhenFreed(Task then) {
  {
    MutexLock lock(mutex_);
    if (freeing_ > 0) {
      when_freed_.push_back(std::move(then));
      return;
    }
  }
  std::move(then)();
}

}  // namespace sluice::agent
