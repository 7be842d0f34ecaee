// Topic factors.

#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/planner/reference/factorization.h"
#include "tests/golden/topics.h"

namespace sluice::golden {
namespace {

template <typename T>
void Compare(const char* name, const char* error_name,
             const absl::StatusOr<T>& found, CaseCheck& check) {
  const Json& golden = check.golden();
  if (golden.contains(error_name)) return check.Refused(found.status());
  if (!golden.contains(name)) return;
  if (!check.Ok(name, found.status())) return;
  check.Equal(name, golden[name], *found);
}

}  // namespace

void CheckFactors(CaseCheck& check) {
  namespace reference = coordinator::reference;
  const int64_t n = check.golden().at("n");
  Compare("three_factors_sorted", "three_factors_error",
          reference::AllThreeFactors(n), check);
  Compare("original_base_order_triples", "three_factors_error",
          reference::AscendingThreeFactors(n), check);
  Compare("prime_factors", "prime_factors_error", reference::PrimeFactors(n),
          check);
}

}  // namespace sluice::golden
