#ifndef SLUICE_TESTS_GOLDEN_REDUCE_AGENTS_H_
#define SLUICE_TESTS_GOLDEN_REDUCE_AGENTS_H_

// Topic bucketer asked of real agents: a coordinator and eight agents of one
// node, a worker on each, whose reduce groups do what a case's ranks do.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cpp/worker.h"
#include "tests/fakes/cuda/process_gpu.h"
#include "tests/golden/case_check.h"
#include "tests/integration/test_cluster.h"

namespace sluice::golden {

class ReduceAgents {
 public:
  static constexpr int kAgents = 8;

  // Starts all processes. `on_gpus`: each agent serves a GPU (of shared memory,
  // tests/fakes/cuda), tensors lie there and are reduced by NCCL (a library
  // that moves bytes on the host, tests/fakes/nccl).
  static absl::StatusOr<std::unique_ptr<ReduceAgents>> Start(
      bool on_gpus = false);

  // The members "events", "callback_order" and "results_by_rank" of the answer
  // to a case; waits after each operation for as many callbacks as `expected`
  // has (the value's answer). Errors: what the agents say; INVALID_ARGUMENT -
  // more ranks than agents; DEADLINE_EXCEEDED - one of these did not come;
  // INTERNAL - a callback came before what makes it go, or ranks differ.
  absl::StatusOr<Json> Answer(const Json& golden_case, const Json& expected);

 private:
  ReduceAgents() = default;

  std::unique_ptr<agent::cuda::ProcessGpuRuntime> gpus_;  // null: the host
  std::unique_ptr<testing::TestCluster> cluster_;
  std::vector<std::unique_ptr<Worker>> workers_;
  int next_first_ = 0;  // agent of the next case's rank 0
};

// Judges a case of topic bucketer by what real agents do.
void CheckBucketerOnAgents(ReduceAgents& agents, CaseCheck& check);

}  // namespace sluice::golden

#endif  // SLUICE_TESTS_GOLDEN_REDUCE_AGENTS_H_
