#ifndef SLUICE_TESTS_INTEGRATION_GPU_JOB_H_
#define SLUICE_TESTS_INTEGRATION_GPU_JOB_H_

// Parameters on GPUs of real agents: "trainer", which workers lend by CUDA IPC,
// and "rollout" in agents' arenas.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cpp/worker.h"
#include "proto/sluice/v1/layout.pb.h"
#include "proto/sluice/v1/mesh.pb.h"
#include "proto/sluice/v1/model_service.pb.h"
#include "proto/sluice/v1/operation.pb.h"
#include "proto/sluice/v1/tensor.pb.h"
#include "proto/sluice/v1/worker_service.pb.h"
#include "tests/fakes/cuda/process_gpu.h"
#include "tests/integration/gpu_memory.h"
#include "tests/integration/patterned_model.h"
#include "tests/integration/test_cluster.h"

namespace sluice::testing {

class GpuJob {
 public:
  struct Options {
    // Two nodes: agents 0 to 2 have a GPU, agent 3 beside the last has none.
    TestCluster::Options cluster = {
        .nodes = 2, .agents_per_node = 2, .gpus = {0, 1, 0}};
    // Agents that share the trainer.
    std::vector<int> trainers = {0, 1};
    // Copies of the rollout, each on the next so many agents.
    int replicas = 2;
    int64_t rows = 64;  // see PatternedModel
  };

  absl::Status Start() { return Start(Options()); }
  absl::Status Start(const Options& options);

  // Writes the next step behind kernels that take `delay_ns`; returns its
  // version.
  absl::StatusOr<uint64_t> WriteNextStep(int64_t delay_ns);

  absl::StatusOr<v1::OperationResult> Sync();
  absl::StatusOr<v1::OperationResult> Sync(
      const std::string& destination, v1::Transport transport,
      absl::Duration progress_timeout = absl::Seconds(5));

  // Places the model once more, in arenas of these agents.
  absl::Status PlaceOn(const std::string& name, const std::vector<int>& agents,
                       v1::Storage storage = v1::STORAGE_ARENA);

  // The step that all bytes of an agent's part of a placement carry.
  absl::StatusOr<int64_t> ReadRollout(int agent, uint64_t version,
                                      const std::string& name = "rollout");

  // Lends new memory of the GPU for an agent's part of the trainer.
  absl::Status Lend(int agent);

  TestCluster& cluster() { return *cluster_; }
  Worker& worker(size_t agent) { return *workers_[agent]; }
  const DeviceBytes& lent(size_t rank) { return ranks_[rank].lent.bytes; }
  int64_t step() const { return step_; }
  int device_pins() const { return device_pins_; }

 private:
  struct Rank {
    int agent = 0;
    v1::RankLayout layout;
    std::unique_ptr<GpuOfWorker> gpu;
    GpuOfWorker::Lent lent;
  };

  absl::Status Place(const std::string& name, const v1::Layout& layout,
                     v1::Storage storage, v1::Mesh mesh);

  v1::ModelSpec model_;
  std::vector<int> gpus_;  // by agent
  agent::cuda::ProcessGpuRuntime runtime_;
  std::unique_ptr<TestCluster> cluster_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Rank> ranks_;
  int64_t step_ = 0;
  int device_pins_ = 0;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_GPU_JOB_H_
