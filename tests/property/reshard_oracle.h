#ifndef SLUICE_TESTS_PROPERTY_RESHARD_ORACLE_H_
#define SLUICE_TESTS_PROPERTY_RESHARD_ORACLE_H_

// Carries a parameter plan out, element by element, on arrays laid out by the
// agents' views and of their element types, and says what is wrong with the
// result.

#include <string>

#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::testing {

// Returns "" if the plan, run in order, reads only what is there at that time
// and writes the right value - that of the source, converted once - to every
// element of every destination view exactly once; else what went wrong first.
std::string RunPlan(const coordinator::ReshardInput& input,
                    const TransferPlan& plan);

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_PROPERTY_RESHARD_ORACLE_H_
