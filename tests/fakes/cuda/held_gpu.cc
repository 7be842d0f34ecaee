#include "tests/fakes/cuda/held_gpu.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace sluice::agent::cuda {

void HeldGpu::Hold() {
  MutexLock lock(mutex_);
  held_ = true;
}

void HeldGpu::LetGo() {
  MutexLock lock(mutex_);
  held_ = false;
  changed_.SignalAll();
}

std::vector<HeldGpu::Queued> HeldGpu::queued() const {
  MutexLock lock(mutex_);
  return queued_;
}

size_t HeldGpu::CountLocked(absl::string_view what) const {
  return static_cast<size_t>(
      std::count_if(queued_.begin(), queued_.end(),
                    [&](const Queued& one) { return one.what == what; }));
}

size_t HeldGpu::Count(absl::string_view what) const {
  MutexLock lock(mutex_);
  return CountLocked(what);
}

size_t HeldGpu::StreamsLocked() const {
  std::set<StreamHandle> streams;
  for (const Queued& one : queued_) streams.insert(one.stream);
  return streams.size();
}

size_t HeldGpu::Streams() const {
  MutexLock lock(mutex_);
  return StreamsLocked();
}

void HeldGpu::Forget() {
  MutexLock lock(mutex_);
  queued_.clear();
}

bool HeldGpu::WaitUntil(const std::function<bool()>& reached) {
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  MutexLock lock(mutex_);
  while (!reached()) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(mutex_, left);
  }
  return true;
}

bool HeldGpu::WaitForQueued(absl::string_view what, size_t count) {
  return WaitUntil([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return CountLocked(what) >= count;
  });
}

bool HeldGpu::WaitForStreams(size_t count) {
  return WaitUntil([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return StreamsLocked() >= count;
  });
}

absl::Status HeldGpu::Queue(StreamHandle stream, const char* what,
                            std::function<void()> run) {
  {
    MutexLock lock(mutex_);
    queued_.push_back({what, stream});
    changed_.SignalAll();
  }
  return ProcessGpuRuntime::Queue(stream, what, [this, run = std::move(run)] {
    {
      MutexLock lock(mutex_);
      while (held_) changed_.Wait(mutex_);
    }
    run();
  });
}

}  // namespace sluice::agent::cuda
