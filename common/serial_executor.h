#ifndef SLUICE_COMMON_SERIAL_EXECUTOR_H_
#define SLUICE_COMMON_SERIAL_EXECUTOR_H_

// One thread that runs posted tasks one after the other. A core needs no lock
// because its host calls it only from here.

#include <deque>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "common/mutex.h"

namespace sluice {

// Thread rule: all methods may be called from any thread, Stop and the
// destructor not from a task.
//
// Invariants: tasks run in the order they were posted, never two at a time,
// each once; a task accepted by Post runs before Stop returns.
class SerialExecutor {
 public:
  using Task = absl::AnyInvocable<void() &&>;

  // Starts the thread; `name` (cut to 15 characters) is what the system shows.
  explicit SerialExecutor(std::string name);

  // As Stop.
  ~SerialExecutor();
  SerialExecutor(const SerialExecutor&) = delete;
  SerialExecutor& operator=(const SerialExecutor&) = delete;

  // Appends a task. Returns false, and drops the task unrun, after Stop.
  bool Post(Task task);

  // Runs what was posted so far, then ends the thread; later calls wait too.
  // Tasks that running tasks post meanwhile are refused.
  void Stop();

  // Whether the caller is a task of this executor.
  bool IsCurrentThread() const;

 private:
  void Run();

  const std::string name_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Serialises joining, so that two callers of Stop both find the thread ended.
  Mutex join_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  // Last: the thread uses the members above.
  std::thread thread_;
  // Read by any thread; thread_ itself changes in join().
  const std::thread::id thread_id_;
};

}  // namespace sluice

#endif  // SLUICE_COMMON_SERIAL_EXECUTOR_H_
