#ifndef SLUICE_COORDINATOR_PLANNER_REFERENCE_FACTORIZATION_H_
#define SLUICE_COORDINATOR_PLANNER_REFERENCE_FACTORIZATION_H_

// Ways to divide a number of processes over axes, as AReaL's
// decompose_to_three_factors and _prime_factors (realhf/base/topology.py).

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice::coordinator::reference {

using ThreeFactors = std::array<int64_t, 3>;

// Returns every a <= b <= c with a*b*c = n, ascending; none for n = 0.
// Errors: INVALID_ARGUMENT - n below 0.
absl::StatusOr<std::vector<ThreeFactors>> AscendingThreeFactors(int64_t n);

// Returns every (a, b, c) with a*b*c = n, ascending (the reference's order
// within the permutations of one triple depends on a hash). None for n = 0.
// Errors: INVALID_ARGUMENT - n below 0.
absl::StatusOr<std::vector<ThreeFactors>> AllThreeFactors(int64_t n);

// Returns the prime factors of n, ascending, each as often as it divides n;
// none for n = 1.
// Errors: INVALID_ARGUMENT - n below 1.
absl::StatusOr<std::vector<int64_t>> PrimeFactors(int64_t n);

}  // namespace sluice::coordinator::reference

#endif  // SLUICE_COORDINATOR_PLANNER_REFERENCE_FACTORIZATION_H_
