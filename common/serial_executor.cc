#include "common/serial_executor.h"

#include <pthread.h>

#include <deque>
#include <string>
#include <thread>
#include <utility>

#include "common/check.h"
#include "common/mutex.h"

namespace sluice {

SerialExecutor::SerialExecutor(std::string name)
    : name_(std::move(name)),
      thread_([this] { Run(); }),
      thread_id_(thread_.get_id()) {}

SerialExecutor::~SerialExecutor() { Stop(); }

bool SerialExecutor::Post(Task task) {
  {
    MutexLock lock(mutex_);
    if (!stopping_) {
      tasks_.push_back(std::move(task));
      changed_.Signal();
      return true;
    }
  }
  // The refused task is destroyed here, outside the lock.
  return false;
}

void SerialExecutor::Stop() {
  SLUICE_CHECK(!IsCurrentThread()) << "Stop called by a task of " << name_;
  MutexLock join_lock(join_mutex_);
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.Signal();
  }
  if (thread_.joinable()) thread_.join();
}

bool SerialExecutor::IsCurrentThread() const {
  return std::this_thread::get_id() == thread_id_;
}

void SerialExecutor::Run() {
  pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
  while (true) {
    // A batch at a time: posting threads meet the lock, running tasks do not.
    std::deque<Task> batch;
    {
      MutexLock lock(mutex_);
      while (tasks_.empty() && !stopping_) changed_.Wait(mutex_);
      if (tasks_.empty()) return;
      batch.swap(tasks_);
    }
    while (!batch.empty()) {
      std::move(batch.front())();
      batch.pop_front();
    }
  }
}

}  // namespace sluice
