// The coordinator killed while agents move bytes by NCCL that they will never
// end by themselves (tests/fakes/nccl), and started again.

#include <catch2/catch.hpp>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cpp/client.h"
#include "common/convert_time.h"
#include "proto/sluice/v1/model_service.pb.h"
#include "proto/sluice/v1/operation.pb.h"
#include "proto/sluice/v1/status_service.pb.h"
#include "tests/integration/fake_nccl.h"
#include "tests/integration/gpu_job.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

// Beyond the test's own time: no deadline of the sync ends what hangs, only the
// coordinator's next life does.
constexpr absl::Duration kNoEnd = absl::Minutes(30);

v1::SyncRequest PatientSync() {
  v1::SyncRequest request;
  request.set_model("policy");
  request.set_source("trainer");
  request.add_destinations("rollout");
  request.set_transport(v1::TRANSPORT_NCCL);
  *request.mutable_progress_timeout() = ToProto(kNoEnd);
  *request.mutable_deadline() = ToProto(kNoEnd);
  return request;
}

void CheckRead(GpuJob& job, uint64_t version, int64_t step) {
  for (int agent = 0; agent < job.cluster().size(); ++agent) {
    CAPTURE(agent);
    REQUIRE_OK_AND_ASSIGN(const int64_t read, job.ReadRollout(agent, version));
    CHECK(read == step);
  }
}

TEST_CASE("a coordinator killed while NCCL hangs leaves nothing that hangs",
          "[integration][gpu_recovery]") {
  FakeNccl nccl;
  GpuJob job;
  REQUIRE_OK(job.Start({.cluster = {.nodes = 2,
                                    .agents_per_node = 2,
                                    .gpus = {0, 1, 2, 3},
                                    .agent_flags = {"--nccl-abort-timeout=3s"}},
                        .trainers = {0, 2},
                        .replicas = 2,
                        .rows = 512}));
  TestCluster& cluster = job.cluster();
  REQUIRE_OK_AND_ASSIGN(const uint64_t old_version, job.WriteNextStep(0));
  REQUIRE_OK(job.Sync("rollout", v1::TRANSPORT_NCCL));
  // Twice: the agents have met an epoch raised over another before.
  for (int life = 0; life < 2; ++life) {
    CAPTURE(life);
    const int64_t step = job.step();
    REQUIRE_OK_AND_ASSIGN(const uint64_t version, job.WriteNextStep(0));
    nccl.SetFaults("op_hang");
    absl::StatusOr<v1::OperationResult> synced;
    std::thread sync(
        [&] { synced = cluster.impatient_client().Sync(PatientSync()); });
    const absl::Status runs = cluster.AwaitStatus(
        "a sync that executes", [](const v1::GetStatusResponse& status) {
          return !status.operations().empty() &&
                 status.operations(0).update().phase() ==
                     v1::OPERATION_PHASE_EXECUTING;
        });
    const absl::Status killed = cluster.KillCoordinator();
    sync.join();
    REQUIRE_OK(runs);
    REQUIRE_OK(killed);
    CHECK_THAT(synced, StatusIs(absl::StatusCode::kUnavailable));
    REQUIRE_OK(cluster.RestartCoordinator());
    REQUIRE_OK(cluster.AwaitAllAlive());
    if (life == 0) CheckRead(job, old_version, step);
    nccl.SetFaults("");
    // The same step: what hung has neither its memory nor its turn any more.
    REQUIRE_OK(cluster.client().Sync(PatientSync()));
    CheckRead(job, version, job.step());
  }
}

}  // namespace
}  // namespace sluice::testing
