#include "agent/device/shared_bell.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace sluice::agent {
namespace {

void Futex(std::atomic<uint32_t>& word, int operation, uint32_t value,
           const timespec* timeout) {
  static_assert(sizeof(word) == sizeof(uint32_t));
  // Not private: the word is shared between processes.
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), operation, value,
          timeout, nullptr, 0);
}

}  // namespace

void SharedBell::Ring() {
  // Either this sees the sleeper, or the sleeper's futex call sees the ring.
  rung_.fetch_add(1, std::memory_order_seq_cst);
  if (sleeping_.load(std::memory_order_seq_cst) != 0) {
    Futex(rung_, FUTEX_WAKE, INT_MAX, nullptr);
  }
}

void SharedBell::Wait(uint32_t seen, absl::Duration timeout) {
  const timespec relative = absl::ToTimespec(timeout);
  sleeping_.fetch_add(1, std::memory_order_seq_cst);
  Futex(rung_, FUTEX_WAIT, seen, &relative);
  sleeping_.fetch_sub(1, std::memory_order_seq_cst);
}

}  // namespace sluice::agent
