#include "agent/device/host_device.h"

#include <utility>

#include "absl/status/status.h"
#include "agent/device/memory_file.h"
#include "common/status_macros.h"

namespace sluice::agent {

absl::StatusOr<std::shared_ptr<MappedMemory>> HostDevice::Allocate(
    int64_t bytes, absl::string_view label) {
  SLUICE_ASSIGN_OR_RETURN(UniqueFd fd, CreateMemoryFile(bytes, label));
  return MapMemoryFile(std::move(fd), bytes, Access::kReadWrite);
}

absl::StatusOr<std::shared_ptr<MappedMemory>> HostDevice::Adopt(
    UniqueFd descriptor) {
  SLUICE_ASSIGN_OR_RETURN(const int64_t bytes,
                          CheckMemoryFile(descriptor.get()));
  auto mapped = MapMemoryFile(std::move(descriptor), bytes, Access::kReadWrite);
  if (absl::IsPermissionDenied(mapped.status())) {
    return absl::InvalidArgumentError(
        "descriptor: expected memory that may be written, found it read-only");
  }
  return mapped;
}

}  // namespace sluice::agent
