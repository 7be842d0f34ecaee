#ifndef SLUICE_AGENT_CONTENT_WORKER_H_
#define SLUICE_AGENT_CONTENT_WORKER_H_

// A thread for what reads or writes whole placements without a plan: loads from
// checkpoints, and digests of landed memory.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/checkpoint/view_loader.h"
#include "agent/core/effects.h"
#include "agent/core/events.h"
#include "agent/device/mapped_memory.h"
#include "agent/executor/piece_mover.h"
#include "common/clock.h"
#include "common/digest_value.h"
#include "common/ids.h"
#include "common/model.h"
#include "common/mutex.h"
#include "common/serial_executor.h"

namespace sluice::agent {

// Thread-safe. Orders run one after the other; their ends are told on the
// worker's thread.
class ContentWorker {
 public:
  struct Callbacks {
    std::function<void(OperationId, int64_t bytes_done)> on_progress;
    // Once per Load: after it nothing writes the memory for it.
    std::function<void(LoadDoneEvent)> on_loaded;
    // Once per ReadDigests.
    std::function<void(DigestsReadEvent)> on_digests;
  };

  // `mover` reads and writes what it is given memory of.
  ContentWorker(const Clock& clock, PieceMover& mover, Callbacks callbacks);
  // Cancels what runs and waits.
  ~ContentWorker();
  ContentWorker(const ContentWorker&) = delete;
  ContentWorker& operator=(const ContentWorker&) = delete;

  // Makes the pages of an arena beforehand, a piece at a time between other
  // orders, as long as it lives: no operation should have to wait for them.
  void Touch(std::weak_ptr<MappedMemory> arena);

  // Fills the placement's buffer, which lies in `memory` (null if the placement
  // has no bytes here), from the directory.
  void Load(StartLoad order, std::shared_ptr<MappedMemory> memory);
  // Ends a load: on_loaded comes with `reason` unless it ended before.
  void AbortLoad(OperationId operation, absl::Status reason);

  // Digests every view of the placement, cast to the types that the order
  // names. Not scaled by MixTensor: each digest names its tensor.
  void ReadDigests(agent::ReadDigests order,
                   std::shared_ptr<MappedMemory> memory);

 private:
  struct Abort {
    Mutex mutex;
    absl::Status reason ABSL_GUARDED_BY(mutex);
    std::atomic<bool> wanted{false};
  };

  void TouchFrom(const std::weak_ptr<MappedMemory>& arena, int64_t offset);
  void RunLoad(const StartLoad& order,
               const std::shared_ptr<MappedMemory>& memory, Abort& abort);
  // Fills the placement's buffer; returns the bytes read.
  absl::StatusOr<int64_t> ReadFiles(const StartLoad& order,
                                    const std::shared_ptr<MappedMemory>& memory,
                                    const LoadOptions& options);
  void RunDigests(const agent::ReadDigests& order,
                  const std::shared_ptr<MappedMemory>& memory);
  absl::StatusOr<Digest> DigestOfView(
      const agent::ReadDigests& order, const View& view,
      const std::shared_ptr<MappedMemory>& memory);

  const Clock& clock_;
  PieceMover& mover_;
  const Callbacks callbacks_;
  std::atomic<bool> stopping_{false};
  Mutex mutex_;
  absl::flat_hash_map<OperationId, std::shared_ptr<Abort>> loads_
      ABSL_GUARDED_BY(mutex_);
  // Last: its tasks use the members above.
  SerialExecutor thread_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CONTENT_WORKER_H_
