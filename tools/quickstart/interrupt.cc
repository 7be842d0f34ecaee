#include "tools/quickstart/interrupt.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tools/console/exit_code.h"

namespace sluice::quickstart {
namespace {

// What the handler may touch: a descriptor, nothing else.
volatile sig_atomic_t event_fd = -1;

void OnSignal(int) {
  const uint64_t one = 1;
  const ssize_t ignored = ::write(event_fd, &one, sizeof one);
  static_cast<void>(ignored);
}

}  // namespace

Interrupt::Interrupt() : event_(::eventfd(0, EFD_CLOEXEC)) {
  event_fd = event_.get();
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  thread_ = std::thread([this] { Watch(); });
}

Interrupt::~Interrupt() {
  ::signal(SIGINT, SIG_DFL);
  ::signal(SIGTERM, SIG_DFL);
  ending_ = true;
  OnSignal(0);
  thread_.join();
  event_fd = -1;
}

void Interrupt::Add(const local_cluster::Process& process) {
  MutexLock lock(mutex_);
  processes_.push_back(process);
}

void Interrupt::Watch() {
  for (uint64_t count = 0;
       ::read(event_.get(), &count, sizeof count) == sizeof count;) {
    if (ending_) return;
    const bool again = came_.exchange(true);
    std::fprintf(stderr, "\ninterrupted: stopping\n");
    MutexLock lock(mutex_);
    if (processes_.empty()) std::_Exit(console::kExitInterrupted);
    for (const local_cluster::Process& process : processes_) {
      local_cluster::Signal(process, again ? SIGKILL : SIGTERM).IgnoreError();
    }
  }
}

}  // namespace sluice::quickstart
