#ifndef SLUICE_TESTS_INTEGRATION_REDUCE_RIG_H_
#define SLUICE_TESTS_INTEGRATION_REDUCE_RIG_H_

// A cluster of real processes whose workers, all in the test's own, join
// reduce groups.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/reduce_group.h"
#include "client/cpp/worker.h"
#include "proto/sluice/v1/worker_service.pb.h"
#include "tests/integration/reduce_ranks.h"
#include "tests/integration/test_cluster.h"

namespace sluice::testing {

// Agents with a worker each.
struct ReduceRig {
  absl::Status Start(int nodes, int agents_per_node) {
    TestCluster::Options options;
    options.nodes = nodes;
    options.agents_per_node = agents_per_node;
    return StartWith(options);
  }
  absl::Status StartWith(const TestCluster::Options& options) {
    auto started = TestCluster::Start(options);
    if (!started.ok()) return started.status();
    cluster = *std::move(started);
    for (int i = 0; i < cluster->size(); ++i) {
      auto worker = cluster->Attach(i, absl::StrCat("w", i));
      if (!worker.ok()) return worker.status();
      workers.push_back(*std::move(worker));
    }
    return absl::OkStatus();
  }
  absl::StatusOr<ReduceRanks> Join(
      const std::vector<int>& agents, const std::string& name,
      v1::ReduceOperation operation = v1::REDUCE_OPERATION_SUM) {
    ReduceGroupOptions options;
    options.operation = operation;
    return JoinWith(agents, agents, name, options);
  }
  // Joins the workers of `here`; those of the other agents are elsewhere.
  absl::StatusOr<ReduceRanks> JoinWith(const std::vector<int>& here,
                                       const std::vector<int>& agents,
                                       const std::string& name,
                                       ReduceGroupOptions options = {}) {
    std::vector<Worker*> members;
    for (const int agent : here) {
      members.push_back(workers[static_cast<size_t>(agent)].get());
    }
    options.name = name;
    options.agents = cluster->AgentNames(agents);
    options.bucket_mib = 1;
    return JoinTogether(members, options);
  }

  std::unique_ptr<TestCluster> cluster;
  std::vector<std::unique_ptr<Worker>> workers;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_REDUCE_RIG_H_
