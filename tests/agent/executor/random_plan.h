#ifndef SLUICE_TESTS_AGENT_EXECUTOR_RANDOM_PLAN_H_
#define SLUICE_TESTS_AGENT_EXECUTOR_RANDOM_PLAN_H_

#include <random>
#include <vector>

#include "tests/agent/executor/mini_cluster.h"

namespace sluice::agent {

// Transfers between random ranks of random boxes, some relayed on, some cast.
std::vector<TestTransfer> RandomPlan(std::mt19937_64& random, int ranks);

}  // namespace sluice::agent

#endif  // SLUICE_TESTS_AGENT_EXECUTOR_RANDOM_PLAN_H_
