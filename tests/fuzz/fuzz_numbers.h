#ifndef SLUICE_TESTS_FUZZ_FUZZ_NUMBERS_H_
#define SLUICE_TESTS_FUZZ_FUZZ_NUMBERS_H_

// What the mutators of structured inputs draw from.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <random>

namespace sluice::testing {

using FuzzRng = std::minstd_rand;

// Numbers at which sizes, counts and indices go wrong.
inline constexpr int64_t kFuzzNumbers[] = {0,
                                           1,
                                           2,
                                           3,
                                           4,
                                           5,
                                           7,
                                           8,
                                           16,
                                           -1,
                                           -2,
                                           1 << 20,
                                           int64_t{1} << 31,
                                           int64_t{1} << 32,
                                           int64_t{1} << 62,
                                           INT64_MAX,
                                           INT64_MIN};

// In [0, n).
inline size_t Below(FuzzRng& rng, size_t n) { return rng() % n; }

// One of kFuzzNumbers, or a neighbour of `before`.
inline int64_t FuzzNumber(FuzzRng& rng, int64_t before) {
  if (Below(rng, 2) == 0) {
    return kFuzzNumbers[Below(rng, std::size(kFuzzNumbers))];
  }
  return static_cast<int64_t>(static_cast<uint64_t>(before) + Below(rng, 5) -
                              2);
}

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_FUZZ_FUZZ_NUMBERS_H_
