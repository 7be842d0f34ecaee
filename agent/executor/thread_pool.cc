#include "agent/executor/thread_pool.h"

#include <pthread.h>

#include <utility>

namespace sluice::agent {

ThreadPool::ThreadPool(std::string name, int max_threads)
    : name_(std::move(name)), max_threads_(static_cast<size_t>(max_threads)) {}

ThreadPool::~ThreadPool() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    threads.swap(threads_);
  }
  changed_.SignalAll();
  for (std::thread& thread : threads) thread.join();
}

void ThreadPool::Add(Job job, bool urgent) {
  MutexLock lock(mutex_);
  (urgent ? urgent_ : jobs_).push_back(std::move(job));
  if (idle_ < urgent_.size() + jobs_.size() && threads_.size() < max_threads_ &&
      !stopping_) {
    threads_.emplace_back([this] {
      pthread_setname_np(pthread_self(), name_.c_str());
      Run();
    });
  }
  changed_.Signal();
}

void ThreadPool::Run() {
  mutex_.Lock();
  while (true) {
    std::deque<Job>& queue = urgent_.empty() ? jobs_ : urgent_;
    if (!queue.empty()) {
      Job job = std::move(queue.front());
      queue.pop_front();
      mutex_.Unlock();
      std::move(job)();
      job = nullptr;
      mutex_.Lock();
    } else if (stopping_) {
      break;
    } else {
      ++idle_;
      changed_.Wait(mutex_);
      --idle_;
    }
  }
  mutex_.Unlock();
}

}  // namespace sluice::agent
