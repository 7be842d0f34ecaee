#ifndef SLUICE_TESTS_SIM_RANDOM_H_
#define SLUICE_TESTS_SIM_RANDOM_H_

// The simulation's only source of chance: the same seed, the same run.

#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace sluice::sim {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}

  uint64_t Next() {  // SplitMix64
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  // In [0, n).
  int64_t Below(int64_t n) {
    return static_cast<int64_t>(Next() % static_cast<uint64_t>(n));
  }
  bool OneIn(int64_t n) { return Below(n) == 0; }
  // In [lo, hi), in microseconds.
  absl::Duration Between(absl::Duration lo, absl::Duration hi) {
    const int64_t span = absl::ToInt64Microseconds(hi - lo);
    return lo + absl::Microseconds(span > 0 ? Below(span) : 0);
  }
  template <typename T>
  const T& Pick(const std::vector<T>& of) {
    return of[static_cast<size_t>(Below(static_cast<int64_t>(of.size())))];
  }

 private:
  uint64_t state_;
};

}  // namespace sluice::sim

#endif  // SLUICE_TESTS_SIM_RANDOM_H_
