#ifndef SLUICE_AGENT_NCCL_STREAM_H_
#define SLUICE_AGENT_NCCL_STREAM_H_

// The seam to where collectives run: a device and its streams, as far as NCCL
// needs them. Implementations: cuda_stream.h (where CUDA is built in), and for
// tests a stream of the host (tests/fakes/nccl/host_stream.h).

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/nccl/nccl_api.h"

namespace sluice::agent {

// An ordered queue of work on a device. Used by one thread at a time.
class NcclStream {
 public:
  static constexpr size_t kScratchBytes = 4096;

  // Waits for the work: what can hang has been aborted before.
  virtual ~NcclStream() = default;

  // What NCCL calls take; owned by this object.
  virtual NcclStreamHandle handle() const = 0;

  // Memory of the device for work whose data nobody wants.
  virtual void* scratch() const = 0;

  // What is queued from now on comes behind the last record of `event`, which
  // is one of the device (cuda::EventHandle).
  // Errors: INTERNAL - the device has failed.
  virtual absl::Status HoldBack(void* event) = 0;

  // Marks the end of what is queued now.
  // Errors: INTERNAL - the device has failed.
  virtual absl::Status Record() = 0;

  // Whether all work before the last Record has run. Never waits.
  // Errors: INTERNAL - the device has failed.
  virtual absl::StatusOr<bool> Reached() = 0;
};

// The device of this process. Thread-safe.
class NcclDevice {
 public:
  virtual ~NcclDevice() = default;

  // Makes it the device of the calling thread, which is needed on each thread
  // before any call to NCCL. Errors: INTERNAL - the device has failed.
  virtual absl::Status Use() = 0;

  // What tells it from the node's other devices, such as "0000:1b:00.0".
  virtual std::string BusId() const = 0;

  // Errors: INTERNAL - the device has failed.
  virtual absl::StatusOr<std::unique_ptr<NcclStream>> NewStream() = 0;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_STREAM_H_
