#include "coordinator/planner/reference/factorization.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace sluice::coordinator::reference {

absl::StatusOr<std::vector<ThreeFactors>> AscendingThreeFactors(int64_t n) {
  if (n < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "three factors: expected a number of at least 0, found ", n));
  }
  std::vector<ThreeFactors> triples;
  for (int64_t a = 1; a <= n / a / a; ++a) {
    if (n % a != 0) continue;
    const int64_t rest = n / a;
    for (int64_t b = a; b <= rest / b; ++b) {
      if (rest % b == 0) triples.push_back({a, b, rest / b});
    }
  }
  return triples;
}

absl::StatusOr<std::vector<ThreeFactors>> AllThreeFactors(int64_t n) {
  SLUICE_ASSIGN_OR_RETURN(const std::vector<ThreeFactors> ascending,
                          AscendingThreeFactors(n));
  std::vector<ThreeFactors> all;
  for (ThreeFactors triple : ascending) {
    do {
      all.push_back(triple);
    } while (std::next_permutation(triple.begin(), triple.end()));
  }
  std::sort(all.begin(), all.end());
  return all;
}

absl::StatusOr<std::vector<int64_t>> PrimeFactors(int64_t n) {
  if (n < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "prime factors: expected a number of at least 1, found ", n));
  }
  std::vector<int64_t> primes;
  for (int64_t p = 2; p <= n / p; ++p) {
    while (n % p == 0) {
      primes.push_back(p);
      n /= p;
    }
  }
  if (n > 1) primes.push_back(n);
  return primes;
}

}  // namespace sluice::coordinator::reference
