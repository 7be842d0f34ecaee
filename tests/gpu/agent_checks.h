#ifndef SLUICE_TESTS_GPU_AGENT_CHECKS_H_
#define SLUICE_TESTS_GPU_AGENT_CHECKS_H_

// What is checked of agents that share one GPU and reduce over NCCL: real
// daemons, workers in this process. Ranks are told apart by NCCL_HOSTID and
// talk over sockets, so that one GPU is enough; for correctness, not for speed.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "agent/cuda/cuda_runtime.h"

namespace sluice::gpu_tests {

struct AgentSettings {
  agent::cuda::CudaRuntime* runtime = nullptr;
  int device = 0;
  // Found beside this program where empty.
  std::string agent_binary;
  // Elements of each rank's large piece.
  int64_t elements = int64_t{1} << 20;
};

// A group of one rank.
absl::Status CheckOneRank(const AgentSettings& settings);
// Three ranks: small and large pieces, sum and average.
absl::Status CheckSharedGpu(const AgentSettings& settings);
// An agent is killed while collectives run: the others are told which, and with
// its next life they go on.
absl::Status CheckKilledAgent(const AgentSettings& settings);
// A worker asks for what cannot be while collectives run: NCCL is aborted on
// all, who are told why, and the group is made anew.
absl::Status CheckAbortedGroup(const AgentSettings& settings);

}  // namespace sluice::gpu_tests

#endif  // SLUICE_TESTS_GPU_AGENT_CHECKS_H_
