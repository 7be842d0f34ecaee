#ifndef SLUICE_TESTS_PROPERTY_TAMPERING_H_
#define SLUICE_TESTS_PROPERTY_TAMPERING_H_

// For tests that change plans and ask the validator.

#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::testing {

// Returns how many random cases to try: `usual`, times SLUICE_PROPERTY_FACTOR
// of the environment for a longer run
// (bazel test --test_env=SLUICE_PROPERTY_FACTOR=100 --test_timeout=3600). A
// quarter of them under AddressSanitizer, where each takes many times as long.
int NumCases(int usual);

// Makes a changed plan consistent in everything that is not its work: numbers,
// links, kinds, bytes, certificate. What the validator then finds is the
// change.
void Dress(const coordinator::ReshardInput& input, TransferPlan& plan);
void Dress(const coordinator::RedistributionInput& input, TransferPlan& plan);

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_PROPERTY_TAMPERING_H_
