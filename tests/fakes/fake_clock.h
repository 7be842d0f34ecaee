#ifndef SLUICE_TESTS_FAKES_FAKE_CLOCK_H_
#define SLUICE_TESTS_FAKES_FAKE_CLOCK_H_

// A clock that moves only when a test says so.

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"

namespace sluice::testing {

// Starts at a round time; steady and wall time move together. Thread-safe.
class FakeClock final : public Clock {
 public:
  FakeClock() = default;
  explicit FakeClock(absl::Time start) : now_(start), wall_(start) {}

  absl::Time Now() const override {
    MutexLock lock(mutex_);
    return now_;
  }

  absl::Time WallNow() const override {
    MutexLock lock(mutex_);
    return wall_;
  }

  // Moves both; `step` must not be negative.
  void Advance(absl::Duration step) {
    MutexLock lock(mutex_);
    now_ += step;
    wall_ += step;
  }

  // Sets the time of day alone, as an administrator would.
  void SetWall(absl::Time wall) {
    MutexLock lock(mutex_);
    wall_ = wall;
  }

 private:
  mutable Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1'000'000);
  absl::Time wall_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1'000'000);
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_FAKES_FAKE_CLOCK_H_
