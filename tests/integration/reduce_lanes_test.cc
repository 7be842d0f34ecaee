// Syncs and reductions have lanes of their own: what stands still in one of
// them does not hold up the other, though both are in the same agents.

#include <signal.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cpp/client.h"
#include "client/cpp/reduce_group.h"
#include "common/failpoint.h"
#include "proto/sluice/v1/model_service.pb.h"
#include "proto/sluice/v1/operation.pb.h"
#include "proto/sluice/v1/status_service.pb.h"
#include "tests/integration/patterned_model.h"
#include "tests/integration/reduce_ranks.h"
#include "tests/integration/reduce_rig.h"
#include "tests/integration/reduce_tensors.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"
#include "tools/local_cluster/process.h"

namespace sluice::testing {
namespace {

// The trainer's ranks, and those that serve: each needs something of each.
const std::vector<int> kTrainers = {0, 2};
const std::vector<int> kServers = {1, 3};
// The agent that is stopped, on the second node.
constexpr int kStopped = 3;

// Four agents on two nodes that train and serve "policy"; none is lost however
// long it stands still.
struct LanesRig {
  LanesRig() {
    TestCluster::Options options;
    options.lease = absl::Minutes(2);
    options.failpoints = true;
    REQUIRE_OK(reduce.StartWith(options));
    model = PatternedModel("policy", /*rows=*/8192);
    v1::RegisterModelRequest request;
    *request.mutable_model() = model;
    REQUIRE_OK(cluster().client().RegisterModel(request));
    Place("trainer", kTrainers, RowLayout(), v1::STORAGE_LENT);
    Place("rollout", kServers, ServingLayout(), v1::STORAGE_ARENA);
    auto started =
        PatternedTrainer::Start(cluster(), model, "trainer", kTrainers);
    REQUIRE_OK(started);
    trainer = *std::move(started);
  }
  void Place(const std::string& name, const std::vector<int>& agents,
             const v1::Layout& layout, v1::Storage storage) {
    v1::RegisterPlacementRequest place;
    place.set_model(model.name());
    place.set_placement(name);
    *place.mutable_mesh() =
        MeshOf({{"data", 1}, {"tensor", 2}}, cluster().AgentNames(agents));
    *place.mutable_layout() = layout;
    place.set_storage(storage);
    REQUIRE_OK(cluster().client().RegisterPlacement(place));
  }
  absl::Status Sync() {
    v1::SyncRequest request;
    request.set_model(model.name());
    request.set_source("trainer");
    request.add_destinations("rollout");
    request.mutable_deadline()->set_seconds(120);
    request.mutable_progress_timeout()->set_seconds(120);
    return cluster().impatient_client().Sync(request).status();
  }
  TestCluster& cluster() { return *reduce.cluster; }

  ReduceRig reduce;
  v1::ModelSpec model;
  std::unique_ptr<PatternedTrainer> trainer;
};

// One tensor that goes alone and one that goes with a bucket, on each rank.
class Reduction {
 public:
  explicit Reduction(const ReduceRanks& ranks)
      : ranks_(ranks), heard_(ranks.size()) {
    for (size_t r = 0; r < ranks.size(); ++r) {
      for (const int64_t numel : {300'000, 1000}) {
        tensors_.push_back(Tensors::Make(*ranks[r], v1::DTYPE_F32, numel));
        tensors_.back().Fill(static_cast<int>(r));
      }
    }
  }
  void Ask(size_t rank) {
    for (size_t t = 2 * rank; t < 2 * rank + 2; ++t) {
      ranks_[rank]->ReduceScatter(tensors_[t].Inputs(), tensors_[t].Output(),
                                  heard_[rank].Done());
    }
    ranks_[rank]->Flush([](const absl::Status&) {});
  }
  size_t num_heard(size_t rank) { return heard_[rank].Await(0).size(); }
  void CheckDone() {
    for (size_t r = 0; r < ranks_.size(); ++r) {
      const auto statuses = heard_[r].Await(2);
      REQUIRE(statuses.size() == 2);
      for (const absl::Status& status : statuses) CHECK_OK(status);
      for (size_t t = 2 * r; t < 2 * r + 2; ++t) {
        CHECK(tensors_[t].IsReduced(static_cast<int>(r)));
      }
    }
  }

 private:
  const ReduceRanks& ranks_;
  std::vector<Tensors> tensors_;
  std::vector<Heard> heard_;
};

// A process that was stopped goes on at the end of a scope, come what may.
class GoesOn {
 public:
  explicit GoesOn(local_cluster::Process process)
      : process_(std::move(process)) {}
  ~GoesOn() { Now(); }
  void Now() { local_cluster::Signal(process_, SIGCONT).IgnoreError(); }

 private:
  const local_cluster::Process process_;
};

TEST_CASE("a sync that stands still in agents holds up no reduction of theirs",
          "[integration][reduce]") {
  LanesRig rig;
  REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks,
                        rig.reduce.Join({2, 0, 1}, "g"));
  REQUIRE_OK(rig.trainer->WriteNextStep());
  const std::string stopped = rig.cluster().AgentName(kStopped);
  REQUIRE_OK_AND_ASSIGN(const auto armed,
                        rig.cluster().Arm(stopped, "agent.bytes", /*amount=*/1,
                                          FailpointControl::kStop));
  absl::Status synced = absl::UnknownError("not yet");
  std::thread sync([&] { synced = rig.Sync(); });
  GoesOn goes_on(rig.cluster().Daemon(stopped));
  // In the middle of its part: the others have begun theirs.
  const absl::Time until = absl::Now() + kPatience;
  while (!armed->fired() && absl::Now() < until) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  CHECK(armed->fired());
  Reduction reduction(ranks);
  for (size_t r = 0; r < ranks.size(); ++r) reduction.Ask(r);
  reduction.CheckDone();
  REQUIRE_OK_AND_ASSIGN(const v1::GetStatusResponse status,
                        rig.cluster().client().GetStatus());
  CHECK(status.operations(0).update().phase() == v1::OPERATION_PHASE_EXECUTING);
  goes_on.Now();
  sync.join();
  CHECK_OK(synced);
}

TEST_CASE("a reduction that waits for a member holds up no sync of its agents",
          "[integration][reduce]") {
  LanesRig rig;
  REQUIRE_OK_AND_ASSIGN(const ReduceRanks ranks,
                        rig.reduce.Join({0, 1, 2, 3}, "g"));
  Reduction reduction(ranks);
  for (size_t r = 0; r < 3; ++r) reduction.Ask(r);
  for (int round = 0; round < 3; ++round) {
    REQUIRE_OK(rig.trainer->WriteNextStep());
    CHECK_OK(rig.Sync());
  }
  for (size_t r = 0; r < 3; ++r) CHECK(reduction.num_heard(r) == 0);
  reduction.Ask(3);
  reduction.CheckDone();
}

}  // namespace
}  // namespace sluice::testing
