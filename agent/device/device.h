#ifndef SLUICE_AGENT_DEVICE_DEVICE_H_
#define SLUICE_AGENT_DEVICE_DEVICE_H_

// The seam to where tensors lie: host memory now, GPUs later.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/device/mapped_memory.h"
#include "agent/device/unique_fd.h"

namespace sluice::agent {

// Makes memory that other processes of the node can map, and takes theirs.
// Thread-safe. Memory lives as long as a result or a peer's mapping of it.
class Device {
 public:
  virtual ~Device() = default;

  // Kind, such as "host".
  virtual std::string Kind() const = 0;

  // Makes an arena; its pages are touched by nobody until used. `label` is for
  // people. Errors: INVALID_ARGUMENT - bytes below 1; RESOURCE_EXHAUSTED.
  virtual absl::StatusOr<std::shared_ptr<MappedMemory>> Allocate(
      int64_t bytes, absl::string_view label) = 0;

  // Maps memory that another process lends, for reading and writing.
  // Errors: INVALID_ARGUMENT - no shared memory, it can shrink, it is empty or
  // read-only.
  virtual absl::StatusOr<std::shared_ptr<MappedMemory>> Adopt(
      UniqueFd descriptor) = 0;

  // Maps memory of a GPU that another process lends or shows.
  // Errors: UNIMPLEMENTED - this device is none; INVALID_ARGUMENT - the handle
  // is none, its process has ended, or the range lies outside its allocation.
  virtual absl::StatusOr<std::shared_ptr<MappedMemory>> AdoptRange(
      const DeviceRange& range);
};

inline absl::StatusOr<std::shared_ptr<MappedMemory>> Device::AdoptRange(
    const DeviceRange&) {
  return absl::UnimplementedError(
      "memory of a GPU: this agent serves the memory of its host (--device "
      "host)");
}

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_DEVICE_DEVICE_H_
