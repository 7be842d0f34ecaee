#ifndef SLUICE_AGENT_STREAM_WRITER_H_
#define SLUICE_AGENT_STREAM_WRITER_H_

// Writes messages of any thread to one gRPC callback stream, in order.

#include <grpcpp/support/status.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "common/mutex.h"

namespace sluice::agent {

// Thread-safe. Shared by the stream's reactor and whoever sends; the reactor
// lives at least until `finish` was called, because a stream is done only after
// that.
//
// Invariants: at most one write is under way; `finish` is called exactly once,
// after the last write ended and outside of Enter..Leave; both are called
// without a lock.
template <typename Message>
class StreamWriter {
 public:
  struct Calls {
    std::function<void(const Message*)> write;  // reactor's StartWrite
    std::function<void(grpc::Status)> finish;   // reactor's Finish
  };

  // Messages waiting beyond `max_queued` end the stream: its reader is stuck.
  StreamWriter(Calls calls, size_t max_queued)
      : calls_(std::move(calls)), max_queued_(max_queued) {}

  void Send(Message message) {
    const Message* next = nullptr;
    bool stuck = false;
    {
      MutexLock lock(mutex_);
      if (ending_ || last_.has_value()) return;
      stuck = queue_.size() >= max_queued_;
      if (!stuck) {
        queue_.push_back(std::move(message));
        next = NextLocked();
      }
    }
    if (stuck) {
      Finish(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                          "the stream's reader does not keep up"));
    } else if (next != nullptr) {
      calls_.write(next);
    }
  }

  // The reactor's OnWriteDone.
  void OnWriteDone(bool ok) {
    const Message* next = nullptr;
    {
      MutexLock lock(mutex_);
      writing_ = false;
      queue_.pop_front();
      // A broken stream ends by its cancellation; nothing more can be sent.
      if (!ok) queue_.clear();
      EndIfSentLocked();
      if (!ending_) next = NextLocked();
    }
    if (next != nullptr) {
      calls_.write(next);
    } else {
      FinishIfIdle();
    }
  }

  // Ends the stream; later calls have no effect. What waits is not sent.
  void Finish(grpc::Status status) {
    {
      MutexLock lock(mutex_);
      if (ending_) return;
      ending_ = true;
      status_ = std::move(status);
    }
    FinishIfIdle();
  }

  // As Finish, once what waits is sent; what is given to Send from now on is
  // not.
  void FinishWhenSent(grpc::Status status) {
    {
      MutexLock lock(mutex_);
      if (ending_ || last_.has_value()) return;
      last_ = std::move(status);
      EndIfSentLocked();
    }
    FinishIfIdle();
  }

  // Around the part of a reaction that may start another read: returns false if
  // the stream ends, and no Leave follows.
  bool Enter() {
    MutexLock lock(mutex_);
    if (ending_) return false;
    ++entered_;
    return true;
  }
  void Leave() {
    {
      MutexLock lock(mutex_);
      --entered_;
    }
    FinishIfIdle();
  }

 private:
  const Message* NextLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || queue_.empty()) return nullptr;
    writing_ = true;
    return &queue_.front();  // stays there until it is written
  }

  void EndIfSentLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (ending_ || !last_.has_value() || !queue_.empty()) return;
    ending_ = true;
    status_ = *last_;
  }

  void FinishIfIdle() {
    // A copy: the reactor may let go of this object before the call returns.
    const std::function<void(grpc::Status)> finish = calls_.finish;
    grpc::Status status;
    {
      MutexLock lock(mutex_);
      if (!ending_ || finished_ || writing_ || entered_ > 0) return;
      finished_ = true;
      status = status_;
    }
    finish(std::move(status));
  }

  const Calls calls_;
  const size_t max_queued_;
  Mutex mutex_;
  std::deque<Message> queue_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  int entered_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status status_ ABSL_GUARDED_BY(mutex_);
  // Status to finish with when the queue is empty.
  std::optional<grpc::Status> last_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_STREAM_WRITER_H_
