#ifndef SLUICE_AGENT_HAND_OVER_WATCH_H_
#define SLUICE_AGENT_HAND_OVER_WATCH_H_

// Waits until memory has been handed over by those who had work of a device
// queued on it (MappedMemory::IsHandedOver), on behalf of operations.

#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/mapped_memory.h"
#include "common/ids.h"
#include "common/mutex.h"

namespace sluice::agent {

using Memories = std::vector<std::shared_ptr<MappedMemory>>;

// Whether all of it is there; drops what is. Errors: the device's.
absl::StatusOr<bool> AreHandedOver(Memories& memories);

// Thread-safe. Asks by a thread that is made when it is first needed.
class HandOverWatch {
 public:
  // OK: all of it is there. Else what a device said.
  using Done = absl::AnyInvocable<void(absl::Status) &&>;

  // Between two questions to a device.
  static constexpr absl::Duration kPause = absl::Microseconds(200);

  HandOverWatch() = default;
  // As Stop.
  ~HandOverWatch();
  HandOverWatch(const HandOverWatch&) = delete;
  HandOverWatch& operator=(const HandOverWatch&) = delete;

  // Calls `done` on the watch's thread once all is there, unless it was told to
  // forget the operation. An operation waits once at a time.
  void Await(OperationId operation, Memories memories, Done done);
  void Forget(OperationId operation);
  // Forgets all; ends the thread.
  void Stop();

 private:
  struct Wait {
    OperationId operation;
    Memories memories;  // those that were not there yet
    Done done;
    absl::Status status;  // when it is over
  };

  void Run();
  // Takes out the waits that are over.
  std::vector<Wait> TakeOverLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  CondVar changed_;
  std::vector<Wait> waits_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_HAND_OVER_WATCH_H_
