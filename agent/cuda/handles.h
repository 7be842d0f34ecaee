#ifndef SLUICE_AGENT_CUDA_HANDLES_H_
#define SLUICE_AGENT_CUDA_HANDLES_H_

// Streams and events with one owner. The runtime outlives them.

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/cuda_runtime.h"

namespace sluice::agent::cuda {

// A stream of one device, ended when it goes: what is queued on it still runs.
class CudaStream {
 public:
  static absl::StatusOr<CudaStream> Create(CudaRuntime& runtime, int device);
  CudaStream(CudaStream&& other) noexcept
      : runtime_(std::exchange(other.runtime_, nullptr)),
        device_(other.device_),
        stream_(other.stream_) {}
  CudaStream& operator=(CudaStream&& other) noexcept;
  ~CudaStream() { Reset(); }

  StreamHandle get() const { return stream_; }

 private:
  CudaStream(CudaRuntime& runtime, int device, StreamHandle stream)
      : runtime_(&runtime), device_(device), stream_(stream) {}
  void Reset();

  CudaRuntime* runtime_;  // null: empty
  int device_;
  StreamHandle stream_;
};

// An event of one device, or another process's.
//
// Hand-over of memory: who wrote it records an interprocess event on its stream
// behind its writes and then tells the other side (an RPC with the handle, the
// first time); only then does that side wait for it, before it queues anything
// that touches the memory. A wait that begins before the record waits for
// nothing: the message between the two is what orders them. Workers may let
// their stream wait; an agent asks IsDone until it is (CudaMemory), because the
// event of a process that dies is never reached.
class CudaEvent {
 public:
  static absl::StatusOr<CudaEvent> Create(CudaRuntime& runtime, int device,
                                          EventKind kind);
  // Errors: INVALID_ARGUMENT - no event's handle, or its process has ended.
  static absl::StatusOr<CudaEvent> Import(CudaRuntime& runtime, int device,
                                          const IpcHandle& handle);
  CudaEvent(CudaEvent&& other) noexcept
      : runtime_(std::exchange(other.runtime_, nullptr)),
        device_(other.device_),
        event_(other.event_) {}
  CudaEvent& operator=(CudaEvent&& other) noexcept;
  ~CudaEvent() { Reset(); }

  EventHandle get() const { return event_; }
  absl::StatusOr<IpcHandle> Export() const;
  absl::Status Record(const CudaStream& stream) const;
  // Lets the stream wait for the last Record.
  absl::Status HoldBack(const CudaStream& stream) const;
  absl::StatusOr<bool> IsDone() const;

 private:
  CudaEvent(CudaRuntime& runtime, int device, EventHandle event)
      : runtime_(&runtime), device_(device), event_(event) {}
  void Reset();

  CudaRuntime* runtime_;  // null: empty
  int device_;
  EventHandle event_;
};

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_HANDLES_H_
