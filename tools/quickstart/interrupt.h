#ifndef SLUICE_TOOLS_QUICKSTART_INTERRUPT_H_
#define SLUICE_TOOLS_QUICKSTART_INTERRUPT_H_

// SIGINT and SIGTERM end a run in good order: the processes it started are
// stopped, so that whatever waits for them fails and cleans up.

#include <atomic>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "agent/device/unique_fd.h"
#include "common/mutex.h"
#include "tools/local_cluster/process.h"

namespace sluice::quickstart {

// One at a time in a process: signals have no address.
class Interrupt {
 public:
  // Takes over both signals until it goes.
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // Names a process to stop: SIGTERM at the first signal, SIGKILL at the
  // second. A signal before there is any ends this program at once.
  void Add(const local_cluster::Process& process);

  bool came() const { return came_; }

 private:
  void Watch();

  agent::UniqueFd event_;
  std::atomic<bool> came_ = false;
  std::atomic<bool> ending_ = false;
  Mutex mutex_;
  std::vector<local_cluster::Process> processes_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_INTERRUPT_H_
