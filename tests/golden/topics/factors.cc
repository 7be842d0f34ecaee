// Topic factors.

#include "tests/golden/ask.h"
#include "tests/golden/topics.h"

namespace sluice::golden {

void CheckFactors(CaseCheck& check) {
  const Json& golden = check.golden();
  const absl::StatusOr<Json> answer = Ask("factors", golden);
  if (golden.contains("three_factors_error")) {
    return check.Refused(answer.status());
  }
  if (!check.Ok("factors", answer.status())) return;
  for (const char* member : {"three_factors_sorted",
                             "original_base_order_triples", "prime_factors"}) {
    if (golden.contains(member)) {
      CompareMembers({member}, golden, *answer, check);
    }
  }
  check.Equal("prime factors are refused",
              golden.contains("prime_factors_error"),
              answer->contains("prime_factors_error"));
}

}  // namespace sluice::golden
