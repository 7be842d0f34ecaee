#ifndef SLUICE_COMMON_CLOCK_H_
#define SLUICE_COMMON_CLOCK_H_

// Where time comes from: hosts hold a Clock and hand `now` to the cores, tests
// hold a FakeClock (tests/fakes/fake_clock.h).

#include "absl/time/time.h"

namespace sluice {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // Steady time: never goes back, not changed by setting the machine's clock.
  // For leases, deadlines and durations; only differences within one process
  // mean anything.
  virtual absl::Time Now() const = 0;

  // The time of day, which may jump. For people and records.
  virtual absl::Time WallNow() const = 0;
};

// The machine's clocks. Now() counts from an arbitrary start.
class SystemClock final : public Clock {
 public:
  absl::Time Now() const override;
  absl::Time WallNow() const override;
};

}  // namespace sluice

#endif  // SLUICE_COMMON_CLOCK_H_
