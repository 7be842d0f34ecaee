#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "common/failpoint.h"

namespace sluice {
namespace {

// Maps the control file once; nullptr if the environment names none.
FailpointControl* MapControl() {
  const char* path = std::getenv("SLUICE_FAILPOINT_FILE");
  if (path == nullptr) return nullptr;
  const int fd = ::open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return nullptr;
  void* memory = ::mmap(nullptr, sizeof(FailpointControl),
                        PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  return memory == MAP_FAILED ? nullptr
                              : static_cast<FailpointControl*>(memory);
}

}  // namespace

void Failpoint(const char* name, int64_t amount) {
  static FailpointControl* const control = MapControl();
  if (control == nullptr) return;
  const int32_t action = control->action.load(std::memory_order_acquire);
  if (action == FailpointControl::kNone ||
      std::strncmp(control->name, name, FailpointControl::kNameBytes) != 0) {
    return;
  }
  if (control->remaining.fetch_sub(amount) > amount) return;
  if (control->fired.exchange(1) != 0) return;
  control->action.store(FailpointControl::kNone);
  // Of this thread, which so goes no instruction further; the others follow.
  ::raise(action == FailpointControl::kKill ? SIGKILL : SIGSTOP);
}

}  // namespace sluice
