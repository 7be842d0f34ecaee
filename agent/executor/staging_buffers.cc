#include "agent/executor/staging_buffers.h"

#include <new>

namespace sluice::agent {
namespace {

constexpr std::align_val_t kAlignment{4096};
// Capacities, from small control messages to the largest message.
constexpr int64_t kCapacities[] = {64 << 10, 1 << 20, 4 << 20};

}  // namespace

StagingBuffers::~StagingBuffers() {
  MutexLock lock(mutex_);
  for (const StagingBuffer& buffer : free_) {
    Free(buffer);
  }
}

void StagingBuffers::Free(const StagingBuffer& buffer) {
  if (buffer.movers) {
    mover_.FreeStaging(buffer.data);
  } else {
    ::operator delete(buffer.data, kAlignment);
  }
}

int64_t StagingBuffers::Capacity(int64_t bytes) {
  for (const int64_t capacity : kCapacities) {
    if (bytes <= capacity) return capacity;
  }
  return bytes;
}

StagingBuffer StagingBuffers::Get(int64_t bytes) {
  const int64_t capacity = Capacity(bytes);
  {
    MutexLock lock(mutex_);
    // From the back: the one used last is the one still in the cache.
    for (size_t i = free_.size(); i-- > 0;) {
      if (free_[i].bytes != capacity) continue;
      const StagingBuffer buffer = free_[i];
      free_.erase(free_.begin() + static_cast<int64_t>(i));
      free_bytes_ -= capacity;
      return buffer;
    }
  }
  if (std::byte* data = mover_.AllocateStaging(capacity)) {
    return {data, capacity, /*movers=*/true};
  }
  void* data = ::operator new(static_cast<size_t>(capacity), kAlignment);
  return {static_cast<std::byte*>(data), capacity, /*movers=*/false};
}

void StagingBuffers::Put(StagingBuffer buffer) {
  {
    MutexLock lock(mutex_);
    if (free_bytes_ + buffer.bytes <= keep_bytes_) {
      free_.push_back(buffer);
      free_bytes_ += buffer.bytes;
      return;
    }
  }
  Free(buffer);
}

bool StagingShare::Take(int64_t capacity, bool front) {
  const int64_t spare = front ? 0 : largest_;
  if (used_ + capacity + spare > budget_) return false;
  used_ += capacity;
  return true;
}

}  // namespace sluice::agent
