#ifndef SLUICE_AGENT_EXECUTOR_STAGING_BUFFERS_H_
#define SLUICE_AGENT_EXECUTOR_STAGING_BUFFERS_H_

// Buffers between packing and sending, and between receiving and unpacking.
//
// StagingBuffers keeps free ones for reuse, for all operations. StagingShare is
// what one operation may use of one direction: a count against its budget, with
// a rule that keeps it from locking up. Messages have one order (that of the
// plan); the message in front of all that still need a buffer may use what is
// there to the last byte, any other one leaves the largest buffer free. So the
// front message always gets its buffer once those before it are through, on
// both sides of each transfer alike.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "agent/executor/piece_mover.h"
#include "common/mutex.h"

namespace sluice::agent {

struct StagingBuffer {
  std::byte* data = nullptr;
  int64_t bytes = 0;    // capacity
  bool movers = false;  // from PieceMover::AllocateStaging
};

// Thread-safe.
class StagingBuffers {
 public:
  // Keeps at most `keep_bytes` of free buffers. Memory is `mover`'s, which
  // outlives this, where it has some to give.
  explicit StagingBuffers(int64_t keep_bytes,
                          PieceMover& mover = TheHostMover())
      : keep_bytes_(keep_bytes), mover_(mover) {}
  ~StagingBuffers();
  StagingBuffers(const StagingBuffers&) = delete;
  StagingBuffers& operator=(const StagingBuffers&) = delete;

  // Returns the capacity of the buffer that a message of `bytes` takes.
  static int64_t Capacity(int64_t bytes);

  StagingBuffer Get(int64_t bytes);
  void Put(StagingBuffer buffer);

 private:
  void Free(const StagingBuffer& buffer);

  const int64_t keep_bytes_;
  PieceMover& mover_;
  Mutex mutex_;
  std::vector<StagingBuffer> free_ ABSL_GUARDED_BY(mutex_);
  int64_t free_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Not thread-safe: guarded by its operation's mutex.
class StagingShare {
 public:
  // `largest` is the capacity of the largest buffer ever asked for.
  StagingShare(int64_t budget_bytes, int64_t largest)
      : budget_(budget_bytes), largest_(largest) {}

  // Whether the budget lets the rule above work.
  bool Suffices() const { return budget_ >= 2 * largest_; }

  // Counts a buffer; returns false if it must wait.
  bool Take(int64_t capacity, bool front);
  void Release(int64_t capacity) { used_ -= capacity; }

  int64_t used() const { return used_; }

 private:
  int64_t budget_;
  int64_t largest_;
  int64_t used_ = 0;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_EXECUTOR_STAGING_BUFFERS_H_
