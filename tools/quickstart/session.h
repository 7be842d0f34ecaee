#ifndef SLUICE_TOOLS_QUICKSTART_SESSION_H_
#define SLUICE_TOOLS_QUICKSTART_SESSION_H_

// What the steps of a quickstart run share: the cluster, who is attached to it,
// and what was measured so far.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/cuda/cuda_runtime.h"
#include "client/cpp/client.h"
#include "client/cpp/worker.h"
#include "common/layout.h"
#include "common/mesh.h"
#include "common/model.h"
#include "tools/local_cluster/local_cluster.h"
#include "tools/quickstart/options.h"
#include "tools/quickstart/report.h"
#include "tools/quickstart/worker_process.h"

namespace sluice::quickstart {

inline constexpr char kModel[] = "policy";
inline constexpr char kTrainer[] = "trainer";
inline constexpr char kRollout[] = "rollout";

// A placement as the quickstart asks for it; ranks are positions in
// Session::cluster's agents.
struct Placed {
  std::string name;
  Layout layout;
  Mesh mesh;
};

struct Session {
  Options options;
  std::string checkpoint;
  ModelSpec model;
  Placed trainer, rollout;
  // Of this process, which reads what lies on GPUs; null where none is used.
  std::unique_ptr<agent::cuda::CudaRuntime> cuda;
  int gpus = 0;  // that there are

  std::unique_ptr<local_cluster::LocalCluster> cluster;
  std::unique_ptr<Client> client;
  // One attached to each agent of the trainer's mesh, in its order.
  std::vector<std::unique_ptr<WorkerProcess>> workers;
  // Ourselves, attached to agents to read what they hold; by agent's number.
  std::map<int, std::unique_ptr<Worker>> readers;

  Report report;

  // The reader of an agent, attached when first asked for.
  absl::StatusOr<Worker*> Reader(int agent);
  // "host" or "cuda:N".
  std::string DeviceOf(int agent) const;
  const std::string& AgentName(int agent) const {
    return cluster->agents()[static_cast<size_t>(agent)].name;
  }
};

// Runs a long operation under a progress line and appends its report, with
// bytes, seconds and phases; the caller adds the rest.
absl::StatusOr<OperationReport*> RunOperation(
    Session& session, const std::string& name,
    const std::function<
        absl::StatusOr<v1::OperationResult>(const Client::Progress&)>& run);

}  // namespace sluice::quickstart

#endif  // SLUICE_TOOLS_QUICKSTART_SESSION_H_
