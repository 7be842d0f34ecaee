#include "agent/counted_device.h"

#include <utility>

#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Memory with what it costs.
struct Counted {
  Counted(std::shared_ptr<const CountedDevice::Account> account, int64_t bytes)
      : account(std::move(account)), bytes(bytes) {}
  ~Counted() {
    memory.reset();
    account->give_back(bytes);
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

  const std::shared_ptr<const CountedDevice::Account> account;
  const int64_t bytes;
  std::shared_ptr<MappedMemory> memory;
};

}  // namespace

CountedDevice::CountedDevice(Device& device, Account account)
    : device_(device),
      account_(std::make_shared<const Account>(std::move(account))) {}

absl::StatusOr<std::shared_ptr<MappedMemory>> CountedDevice::Allocate(
    int64_t bytes, absl::string_view label) {
  if (bytes < 1) return device_.Allocate(bytes, label);  // refused
  SLUICE_RETURN_IF_ERROR(account_->take(bytes, label));
  auto counted = std::make_shared<Counted>(account_, bytes);
  SLUICE_ASSIGN_OR_RETURN(counted->memory, device_.Allocate(bytes, label));
  MappedMemory* memory = counted->memory.get();
  return std::shared_ptr<MappedMemory>(std::move(counted), memory);
}

absl::StatusOr<std::shared_ptr<MappedMemory>> CountedDevice::Adopt(
    UniqueFd descriptor) {
  return device_.Adopt(std::move(descriptor));
}

}  // namespace sluice::agent
