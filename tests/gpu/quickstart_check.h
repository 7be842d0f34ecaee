#ifndef SLUICE_TESTS_GPU_QUICKSTART_CHECK_H_
#define SLUICE_TESTS_GPU_QUICKSTART_CHECK_H_

// The quickstart with --device cuda: a load, syncs between two layouts and a
// batch of samples, agents and trainer on GPUs, every byte checked.

#include <string>

#include "absl/status/status.h"
#include "tools/checkpoint_generator/generator.h"

namespace sluice::gpu_tests {

struct QuickstartSettings {
  // "cuda:N": all agents on one GPU; "cuda": dealt to the GPUs there are.
  std::string device = "cuda";
  // What is synced.
  GeneratorOptions checkpoint;
  // Found beside this program where empty.
  std::string quickstart_binary;
  // Found by the quickstart where empty.
  std::string coordinator_binary;
  std::string agent_binary;
  std::string worker_binary;
};

// Two nodes of two agents. Errors: INTERNAL - it failed, with the end of what
// it said; DATA_LOSS - it says that something is not verified.
absl::Status CheckQuickstart(const QuickstartSettings& settings);

}  // namespace sluice::gpu_tests

#endif  // SLUICE_TESTS_GPU_QUICKSTART_CHECK_H_
