#ifndef SLUICE_AGENT_DEVICE_MAPPED_MEMORY_H_
#define SLUICE_AGENT_DEVICE_MAPPED_MEMORY_H_

// Memory that tensors lie in, as seen by this process.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice::agent {

// Who reaches the bytes at data().
enum class MemorySpace {
  kHost,    // the host
  kPinned,  // the host, and the kernels and copy engines of the GPU
  kDevice,  // the GPU alone
};

// How other processes of the node find memory of a GPU (CUDA IPC).
struct DeviceRange {
  std::string handle;  // 64 bytes, of the allocation
  int64_t offset_bytes = 0;
  int64_t size_bytes = 0;
  // 64 bytes, of an event that is recorded behind each writing of the memory
  // before others are told of it; empty for none.
  std::string event;
};

// A mapping of shared memory; unmapped when the last owner lets go.
class MappedMemory {
 public:
  virtual ~MappedMemory() = default;
  virtual std::byte* data() const = 0;
  virtual int64_t size() const = 0;
  virtual MemorySpace space() const { return MemorySpace::kHost; }
  // The descriptor other processes map it with; borrowed, -1 if it has none.
  virtual int descriptor() const { return -1; }
  // Whether all that others had queued on a device before they handed the
  // memory over has ended: only then may it be touched. Does not wait: a device
  // that waits for an event of another process waits for ever if that process
  // dies, and all that is queued behind it. Errors: the device's.
  virtual absl::StatusOr<bool> IsHandedOver() { return true; }
  // It counts as handed over when the last record of this event of another
  // process (64 bytes) has been reached, or `reader`, whose event it is, is no
  // more. Errors: FAILED_PRECONDITION - memory of the host; INVALID_ARGUMENT -
  // no event's handle, or its process has ended.
  virtual absl::Status HoldBackFor(absl::string_view,
                                   std::weak_ptr<const void>) {
    return absl::FailedPreconditionError("memory of the host has no events");
  }
  // How other processes map it that is of the device. Errors:
  // FAILED_PRECONDITION - it is memory of the host, or cannot be exported.
  virtual absl::StatusOr<DeviceRange> ToRange() const {
    return absl::FailedPreconditionError("memory of the host has no handle");
  }
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_DEVICE_MAPPED_MEMORY_H_
