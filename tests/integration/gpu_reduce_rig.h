#ifndef SLUICE_TESTS_INTEGRATION_GPU_REDUCE_RIG_H_
#define SLUICE_TESTS_INTEGRATION_GPU_REDUCE_RIG_H_

// Reduce groups of GPUs over the daemons that users run: the GPUs are host
// memory that real processes share (tests/fakes/cuda), NCCL is a library that
// moves real bytes and does wrong what it is told (tests/fakes/nccl).

#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/reduce_group.h"
#include "client/cpp/worker.h"
#include "tests/fakes/cuda/process_gpu.h"
#include "tests/integration/fake_nccl.h"
#include "tests/integration/gpu_tensors.h"
#include "tests/integration/reduce_ranks.h"
#include "tests/integration/test_cluster.h"

namespace sluice::testing {

// Agents with a GPU and a worker each.
class GpuReduceRig {
 public:
  // `gpus`: of each agent; by default each has one of its own.
  explicit GpuReduceRig(int agents, std::vector<int> gpus = {});

  TestCluster& cluster() { return *cluster_; }
  WorkerGpu& gpu(int agent) { return *gpus_[static_cast<size_t>(agent)]; }
  // The numbers of all agents.
  std::vector<int> all() const;

  ReduceGroupOptions Options(const std::vector<int>& agents,
                             const std::string& name) const {
    ReduceGroupOptions options;
    options.name = name;
    options.agents = cluster_->AgentNames(agents);
    options.space = v1::REDUCE_SPACE_GPU;
    options.bucket_mib = 1;
    return options;
  }
  absl::StatusOr<ReduceRanks> JoinWith(const std::vector<int>& agents,
                                       const ReduceGroupOptions& options) {
    std::vector<Worker*> members;
    for (const int agent : agents) {
      members.push_back(workers_[static_cast<size_t>(agent)].get());
    }
    return JoinTogether(members, options);
  }
  absl::StatusOr<ReduceRanks> Join(const std::vector<int>& agents,
                                   const std::string& name) {
    return JoinWith(agents, Options(agents, name));
  }
  // How the join of each ended; side by side, each with its own options.
  std::vector<absl::Status> TryJoin(
      const std::vector<ReduceGroupOptions>& options) {
    std::vector<absl::Status> out(options.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < options.size(); ++i) {
      threads.emplace_back(
          [&, i] { out[i] = JoinOne(i, options[i]).status(); });
    }
    for (std::thread& thread : threads) thread.join();
    return out;
  }
  absl::StatusOr<std::unique_ptr<ReduceGroup>> JoinOne(
      size_t agent, const ReduceGroupOptions& options) {
    return workers_[agent]->JoinReduceGroup(options);
  }

  // What the fake library does wrong from now on.
  void SetFaults(const std::string& faults) { nccl_.SetFaults(faults); }

 private:
  const int agents_;
  FakeNccl nccl_;
  agent::cuda::ProcessGpuRuntime runtime_;
  std::vector<std::unique_ptr<WorkerGpu>> gpus_;
  std::unique_ptr<TestCluster> cluster_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

// Reduces small and large tensors of all types on all ranks, and compares.
// `agents[r]` is that of rank r.
void ReduceAllTypes(GpuReduceRig& rig, const std::vector<int>& agents,
                    const ReduceRanks& ranks, int64_t divisor = 1,
                    int64_t delay_ns = 0);

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_GPU_REDUCE_RIG_H_
