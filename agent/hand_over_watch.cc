#include "agent/hand_over_watch.h"

#include <pthread.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "common/status_macros.h"

namespace sluice::agent {

absl::StatusOr<bool> AreHandedOver(Memories& memories) {
  while (!memories.empty()) {
    SLUICE_ASSIGN_OR_RETURN(const bool there, memories.back()->IsHandedOver());
    if (!there) return false;
    memories.pop_back();
  }
  return true;
}

HandOverWatch::~HandOverWatch() { Stop(); }

void HandOverWatch::Await(OperationId operation, Memories memories, Done done) {
  MutexLock lock(mutex_);
  if (stopping_) return;
  waits_.push_back({operation, std::move(memories), std::move(done), {}});
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  changed_.SignalAll();
}

void HandOverWatch::Forget(OperationId operation) {
  Wait forgotten;  // lets go of its memory without the lock
  MutexLock lock(mutex_);
  const auto wait = std::find_if(
      waits_.begin(), waits_.end(),
      [&](const Wait& item) { return item.operation == operation; });
  if (wait == waits_.end()) return;
  forgotten = std::move(*wait);
  waits_.erase(wait);
}

void HandOverWatch::Stop() {
  std::vector<Wait> forgotten;
  std::thread thread;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    forgotten = std::move(waits_);
    waits_.clear();
    thread = std::move(thread_);
    changed_.SignalAll();
  }
  if (thread.joinable()) thread.join();
}

std::vector<HandOverWatch::Wait> HandOverWatch::TakeOverLocked() {
  std::vector<Wait> over;
  for (size_t i = 0; i < waits_.size();) {
    const absl::StatusOr<bool> all = AreHandedOver(waits_[i].memories);
    if (all.ok() && !*all) {
      ++i;
      continue;
    }
    waits_[i].status = all.status();
    over.push_back(std::move(waits_[i]));
    waits_.erase(waits_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return over;
}

void HandOverWatch::Run() {
  pthread_setname_np(pthread_self(), "hand-over");
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (waits_.empty()) {
      changed_.Wait(mutex_);
      continue;
    }
    std::vector<Wait> over = TakeOverLocked();
    if (over.empty()) {
      changed_.WaitFor(mutex_, kPause);
      continue;
    }
    mutex_.Unlock();
    for (Wait& wait : over) std::move(wait.done)(std::move(wait.status));
    over.clear();
    mutex_.Lock();
  }
}

}  // namespace sluice::agent
