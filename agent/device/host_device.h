#ifndef SLUICE_AGENT_DEVICE_HOST_DEVICE_H_
#define SLUICE_AGENT_DEVICE_HOST_DEVICE_H_

// Host memory in sealed memfds.

#include <cstdint>
#include <memory>
#include <string>

#include "agent/device/device.h"

namespace sluice::agent {

class HostDevice final : public Device {
 public:
  std::string Kind() const override { return "host"; }
  absl::StatusOr<std::shared_ptr<MappedMemory>> Allocate(
      int64_t bytes, absl::string_view label) override;
  absl::StatusOr<std::shared_ptr<MappedMemory>> Adopt(
      UniqueFd descriptor) override;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_DEVICE_HOST_DEVICE_H_
