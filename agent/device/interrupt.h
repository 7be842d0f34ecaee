#ifndef SLUICE_AGENT_DEVICE_INTERRUPT_H_
#define SLUICE_AGENT_DEVICE_INTERRUPT_H_

// A flag that ends waits for descriptors (an eventfd).

#include <utility>

#include "absl/status/statusor.h"
#include "agent/device/unique_fd.h"

namespace sluice::agent {

// Thread-safe; once raised it stays so.
class Interrupt {
 public:
  // Errors: RESOURCE_EXHAUSTED - no descriptor left.
  static absl::StatusOr<Interrupt> Create();

  void Raise();
  // Readable once it is raised; borrowed.
  int descriptor() const { return event_.get(); }

 private:
  explicit Interrupt(UniqueFd event) : event_(std::move(event)) {}

  UniqueFd event_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_DEVICE_INTERRUPT_H_
