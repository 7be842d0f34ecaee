#ifndef SLUICE_TESTS_INTEGRATION_CHECKPOINT_RIG_H_
#define SLUICE_TESTS_INTEGRATION_CHECKPOINT_RIG_H_

// A generated checkpoint on eight agents: a trainer's placement in Megatron's
// layout, whose workers lend its memory, and an inference engine's in vLLM's;
// every byte of the latter compared by the independent checker.

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cpp/worker.h"
#include "proto/sluice/v1/model_service.pb.h"
#include "tests/integration/test_cluster.h"
#include "tools/checkpoint_generator/generator.h"

namespace sluice::testing {

// The smallest checkpoint that has everything: four layers, grouped heads,
// biases, a tied vocabulary; some tens of kilobytes.
GeneratorOptions TinyCheckpoint();

class CheckpointRig {
 public:
  struct Options {
    GeneratorOptions checkpoint = TinyCheckpoint();
    // Sizes of the meshes; all agents are used by both.
    int64_t pipe = 2, data = 2, tensor = 2;  // trainer
    int64_t rollout_data = 2, rollout_tensor = 4;
    // Reads a pin that the host cannot (PinnedVersion::device).
    std::function<absl::StatusOr<std::vector<std::byte>>(PinnedVersion&)>
        read_device = {};
  };

  // Generates, registers model "policy" with placements "trainer" and
  // "rollout", attaches a worker to each agent and lends the trainer's memory.
  static absl::StatusOr<std::unique_ptr<CheckpointRig>> Start(
      TestCluster& cluster, const Options& options);

  const std::string& directory() const { return directory_; }
  Worker& worker(int agent) { return *workers_.at(static_cast<size_t>(agent)); }

  absl::StatusOr<v1::OperationResult> Load(
      const std::string& placement = "trainer");
  absl::StatusOr<v1::OperationResult> Sync();
  v1::SyncRequest SyncRequest() const;
  // Flips the sign of every element in a bracket on all workers: the next
  // step. Returns its version.
  absl::StatusOr<uint64_t> FlipSigns();
  // Compares every byte of the rollout, pinned at `version`, with the
  // checkpoint after `flips` sign flips. Returns the bytes compared.
  absl::StatusOr<int64_t> CheckRollout(uint64_t version, int flips);

 private:
  CheckpointRig(TestCluster& cluster, const Options& options)
      : cluster_(cluster), options_(options) {}
  absl::Status Register();

  TestCluster& cluster_;
  const Options options_;
  std::string directory_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::shared_ptr<SharedBytes>> lent_;
  int64_t step_ = 0;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_CHECKPOINT_RIG_H_
