#ifndef SLUICE_AGENT_COUNTED_DEVICE_H_
#define SLUICE_AGENT_COUNTED_DEVICE_H_

// A device whose memory counts against an account.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/device/device.h"
#include "agent/device/mapped_memory.h"
#include "agent/device/unique_fd.h"

namespace sluice::agent {

// Thread-safe as far as the account is.
//
// Invariant: what was taken and not given back is the memory that Allocate gave
// and that somebody holds. Adopted memory is its lender's and does not count.
class CountedDevice final : public Device {
 public:
  // Both outlive all memory.
  struct Account {
    // May block. Errors: RESOURCE_EXHAUSTED, UNAVAILABLE.
    std::function<absl::Status(int64_t bytes, absl::string_view label)> take;
    // Called where the memory goes; must not block.
    std::function<void(int64_t bytes)> give_back;
  };

  // `device` outlives it.
  CountedDevice(Device& device, Account account);

  std::string Kind() const override { return device_.Kind(); }
  // Errors: also those of the account.
  absl::StatusOr<std::shared_ptr<MappedMemory>> Allocate(
      int64_t bytes, absl::string_view label) override;
  absl::StatusOr<std::shared_ptr<MappedMemory>> Adopt(
      UniqueFd descriptor) override;

 private:
  Device& device_;
  const std::shared_ptr<const Account> account_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COUNTED_DEVICE_H_
