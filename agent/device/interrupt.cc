#include "agent/device/interrupt.h"

#include <sys/eventfd.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace sluice::agent {

absl::StatusOr<Interrupt> Interrupt::Create() {
  UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("eventfd: ", std::strerror(errno)));
  }
  return Interrupt(std::move(event));
}

void Interrupt::Raise() {
  // Nobody reads it; it cannot fail before it is full, when it is raised.
  eventfd_write(event_.get(), 1);
}

}  // namespace sluice::agent
