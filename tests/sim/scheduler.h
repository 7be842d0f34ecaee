#ifndef SLUICE_TESTS_SIM_SCHEDULER_H_
#define SLUICE_TESTS_SIM_SCHEDULER_H_

// Virtual time: tasks in order of their times, ties in order of their making.

#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace sluice::sim {

class Scheduler {
 public:
  absl::Time now() const { return now_; }

  void After(absl::Duration delay, std::function<void()> task) {
    queue_.push({now_ + delay, next_++, std::move(task)});
  }

  // Runs the next task; false if there is none.
  bool RunOne() {
    if (queue_.empty()) return false;
    Entry entry = std::move(const_cast<Entry&>(queue_.top()));
    queue_.pop();
    now_ = entry.when;
    entry.task();
    return true;
  }

 private:
  struct Entry {
    absl::Time when;
    uint64_t order = 0;
    std::function<void()> task;
    bool operator<(const Entry& other) const {
      return std::pair(other.when, other.order) < std::pair(when, order);
    }
  };

  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1000);
  uint64_t next_ = 0;
  std::priority_queue<Entry> queue_;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_SCHEDULER_H_
