#ifndef SLUICE_AGENT_EXECUTOR_THREAD_POOL_H_
#define SLUICE_AGENT_EXECUTOR_THREAD_POOL_H_

// Threads that run queued jobs.

#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "common/mutex.h"

namespace sluice::agent {

using Job = absl::AnyInvocable<void() &&>;

// Thread-safe. Threads are made when jobs come and no thread is free, up to
// `max_threads`, and kept. The destructor runs what is queued and joins.
class ThreadPool {
 public:
  // `name` is of the threads, at most 15 characters.
  ThreadPool(std::string name, int max_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Runs after the jobs posted before, unless it is urgent: urgent ones go
  // before all that are not.
  void Post(Job job) { Add(std::move(job), /*urgent=*/false); }
  void PostUrgent(Job job) { Add(std::move(job), /*urgent=*/true); }

 private:
  void Add(Job job, bool urgent);
  void Run();

  const std::string name_;
  const size_t max_threads_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Job> urgent_ ABSL_GUARDED_BY(mutex_);
  std::deque<Job> jobs_ ABSL_GUARDED_BY(mutex_);
  size_t idle_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_EXECUTOR_THREAD_POOL_H_
