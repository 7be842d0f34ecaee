#ifndef SLUICE_AGENT_MEMORY_WORKER_H_
#define SLUICE_AGENT_MEMORY_WORKER_H_

// Threads that make and give back memory for the host. To pin tens of gigabytes
// takes many seconds, and to release memory of a GPU waits for all that is
// queued on it: neither may keep the agent from answering.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "agent/core/effects.h"
#include "agent/device/device.h"
#include "agent/device/mapped_memory.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "common/serial_executor.h"

namespace sluice::agent {

// Each device has a thread, a lane: what is asked of one device is done in the
// order in which it was asked, so what was freed makes room for what is made
// after it; and samples do not wait until a placement's memory is pinned.
//
// Thread rule: all methods but EndAllocations are called from one thread.
class MemoryWorker {
 public:
  using Task = SerialExecutor::Task;
  // Once per Allocate, on the device's lane.
  using OnAllocated =
      std::function<void(const AllocateBuffer& order,
                         absl::StatusOr<std::shared_ptr<MappedMemory>>)>;

  explicit MemoryWorker(OnAllocated on_allocated);
  // As EndAllocations; then frees what was to be freed, and waits.
  ~MemoryWorker();
  MemoryWorker(const MemoryWorker&) = delete;
  MemoryWorker& operator=(const MemoryWorker&) = delete;

  // Makes a buffer. `device` outlives the worker.
  void Allocate(Device& device, AllocateBuffer order);
  // From now on no allocation is begun, and what a running one makes is given
  // back: UNAVAILABLE. On any thread.
  void EndAllocations() { stopping_ = true; }
  // Lets go of a buffer's memory, made here or lent.
  void Free(BufferId buffer, std::shared_ptr<MappedMemory> memory);
  // Runs a task that lets go of other memory, on the lane of what is lent.
  void Run(Task task);
  // Runs `then` when nothing that was freed is left to be let go of: at once,
  // or on a lane.
  void WhenFreed(Task then);

 private:
  // Null: of memory that others own.
  SerialExecutor& LaneOf(const Device* device);
  void NoteFreed();

  const OnAllocated on_allocated_;
  std::atomic<bool> stopping_{false};
  Mutex mutex_;
  // Where buffers were made that are not freed.
  absl::flat_hash_map<BufferId, const Device*> devices_ ABSL_GUARDED_BY(mutex_);
  int64_t freeing_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Task> when_freed_ ABSL_GUARDED_BY(mutex_);
  // Last: their tasks use the members above.
  std::map<const Device*, std::unique_ptr<SerialExecutor>> lanes_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_MEMORY_WORKER_H_
