#ifndef SLUICE_TESTS_PROPERTY_RANDOM_REDISTRIBUTION_H_
#define SLUICE_TESTS_PROPERTY_RANDOM_REDISTRIBUTION_H_

#include "coordinator/planner/planner_inputs.h"
#include "tests/property/random_reshard.h"

namespace sluice::testing {

// A redistribution by a random pattern: up to 12 ranks on up to 4 nodes, up to
// 24 samples of up to 3 keys, some of them empty, some wanted by nobody.
coordinator::RedistributionInput RandomRedistribution(Rng& rng);

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_PROPERTY_RANDOM_REDISTRIBUTION_H_
