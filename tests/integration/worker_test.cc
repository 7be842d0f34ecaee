// Workers and their agent: a worker outlives it, and one that dies inside a
// bracket spoils its own replica only.

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/integration/patterned_model.h"
#include "tests/integration/replica_reader.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

constexpr int64_t kRows = 64;

// Two agents of one node; "trainer" lent by rows, "rollout" in arenas.
struct Pair {
  v1::ModelSpec model = PatternedModel("policy", kRows);
  std::unique_ptr<TestCluster> cluster;

  absl::Status Start() {
    auto started = TestCluster::Start({.nodes = 1, .agents_per_node = 2});
    if (!started.ok()) return started.status();
    cluster = *std::move(started);
    v1::RegisterModelRequest request;
    *request.mutable_model() = model;
    absl::Status status = cluster->client().RegisterModel(request).status();
    status.Update(Place("trainer", RowLayout(), v1::STORAGE_LENT));
    status.Update(Place("rollout", ServingLayout(), v1::STORAGE_ARENA));
    return status;
  }
  absl::Status Place(const std::string& name, const v1::Layout& layout,
                     v1::Storage storage) {
    v1::RegisterPlacementRequest request;
    request.set_model(model.name());
    request.set_placement(name);
    *request.mutable_mesh() =
        MeshOf({{"data", 1}, {"tensor", 2}}, cluster->AgentNames({0, 1}));
    *request.mutable_layout() = layout;
    request.set_storage(storage);
    return cluster->client().RegisterPlacement(request).status();
  }
  absl::StatusOr<v1::OperationResult> Sync() {
    v1::SyncRequest request;
    request.set_model(model.name());
    request.set_source("trainer");
    request.add_destinations("rollout");
    return cluster->client().Sync(request);
  }
  absl::Status AwaitTrainer(uint64_t version) {
    return cluster->AwaitStatus(absl::StrCat("trainer on version ", version),
                                [&](const v1::GetStatusResponse& status) {
                                  return ReplicaVersions(status, "policy",
                                                         "trainer") ==
                                         std::vector<uint64_t>{version};
                                });
  }
};

TEST_CASE("a worker survives its agent and brings its version back",
          "[integration][worker]") {
  Pair pair;
  REQUIRE_OK(pair.Start());
  REQUIRE_OK_AND_ASSIGN(
      const auto trainer,
      PatternedTrainer::Start(*pair.cluster, pair.model, "trainer", {0, 1}));
  REQUIRE_OK_AND_ASSIGN(const uint64_t version, trainer->WriteNextStep());
  REQUIRE_OK(pair.cluster->KillAgent(0));
  REQUIRE_OK(pair.cluster->RestartAgent(0));
  REQUIRE_OK(pair.cluster->AwaitAllAlive());
  REQUIRE_OK(pair.AwaitTrainer(version));
  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult result, pair.Sync());
  CHECK(result.version() == version);
  REQUIRE_OK_AND_ASSIGN(
      const auto reader,
      ReplicaReader::Start(*pair.cluster, pair.model, "rollout", {0, 1},
                           trainer->steps()));
  REQUIRE_OK_AND_ASSIGN(const uint64_t read, reader->ReadOnce());
  CHECK(read == version);
}

TEST_CASE("a bracket stays open across a restart of the agent",
          "[integration][worker]") {
  Pair pair;
  REQUIRE_OK(pair.Start());
  REQUIRE_OK_AND_ASSIGN(
      const auto trainer,
      PatternedTrainer::Start(*pair.cluster, pair.model, "trainer", {0, 1}));
  REQUIRE_OK_AND_ASSIGN(const uint64_t version, trainer->WriteNextStep());
  REQUIRE_OK(trainer->worker(0).BeginWrite("policy", "trainer"));
  REQUIRE_OK(pair.cluster->KillAgent(0));
  REQUIRE_OK(pair.cluster->RestartAgent(0));
  REQUIRE_OK(pair.cluster->AwaitAllAlive());
  // Written or not, nobody may take it for version 1.
  v1::SyncRequest request;
  request.set_model("policy");
  request.set_source("trainer");
  request.add_destinations("rollout");
  request.mutable_wait_deadline()->set_nanos(100'000'000);
  CHECK_THAT(pair.cluster->client().Sync(request),
             StatusIs(absl::StatusCode::kFailedPrecondition));
  REQUIRE_OK(trainer->worker(1).BeginWrite("policy", "trainer"));
  REQUIRE_OK(trainer->worker(0).EndWrite("policy", "trainer", 2));
  REQUIRE_OK_AND_ASSIGN(const uint64_t next,
                        trainer->worker(1).EndWrite("policy", "trainer", 2));
  CHECK(next > version);
  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult result, pair.Sync());
  CHECK(result.version() == next);
}

TEST_CASE("a worker that dies in a bracket leaves its replica torn",
          "[integration][worker]") {
  Pair pair;
  REQUIRE_OK(pair.Start());
  REQUIRE_OK_AND_ASSIGN(
      auto trainer,
      PatternedTrainer::Start(*pair.cluster, pair.model, "trainer", {0, 1}));
  REQUIRE_OK(trainer->WriteNextStep());
  REQUIRE_OK(pair.Sync());
  REQUIRE_OK(trainer->worker(1).BeginWrite("policy", "trainer"));
  trainer.reset();  // its session ends inside the bracket
  REQUIRE_OK(pair.cluster->AwaitStatus(
      "torn copy of agent-1", [](const v1::GetStatusResponse& status) {
        for (const auto& placement : status.models(0).placements()) {
          if (placement.placement() != "trainer") continue;
          for (const std::string& word : placement.replicas(0).exceptions()) {
            if (word.find("agent-1: torn") != std::string::npos) return true;
          }
        }
        return false;
      }));
  CHECK_THAT(pair.Sync(), StatusIs(absl::StatusCode::kFailedPrecondition));

  // Its successor lends memory anew; a whole bracket heals the replica.
  REQUIRE_OK_AND_ASSIGN(
      trainer,
      PatternedTrainer::Start(*pair.cluster, pair.model, "trainer", {0, 1}));
  REQUIRE_OK(trainer->WriteNextStep());
  REQUIRE_OK_AND_ASSIGN(const uint64_t version, trainer->WriteNextStep());
  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult result, pair.Sync());
  CHECK(result.version() == version);
}

TEST_CASE("a bracket belongs to the worker that lent the memory",
          "[integration][worker]") {
  Pair pair;
  REQUIRE_OK(pair.Start());
  REQUIRE_OK_AND_ASSIGN(
      const auto trainer,
      PatternedTrainer::Start(*pair.cluster, pair.model, "trainer", {0, 1}));
  REQUIRE_OK_AND_ASSIGN(const uint64_t version, trainer->WriteNextStep());
  REQUIRE_OK_AND_ASSIGN(const auto stranger,
                        pair.cluster->Attach(0, "stranger"));
  CHECK_THAT(stranger->BeginWrite("policy", "trainer"),
             StatusIs(absl::StatusCode::kFailedPrecondition));
  CHECK_THAT(stranger->EndWrite("policy", "trainer", 9),
             StatusIs(absl::StatusCode::kFailedPrecondition));
  CHECK_THAT(stranger->BeginWrite("policy", "rollout"),
             StatusIs(absl::StatusCode::kFailedPrecondition));
  // Its owner must open one first, too.
  CHECK_THAT(trainer->worker(0).EndWrite("policy", "trainer", 5),
             StatusIs(absl::StatusCode::kFailedPrecondition));
  REQUIRE_OK(pair.AwaitTrainer(version));
  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult result, pair.Sync());
  CHECK(result.version() == version);
}

TEST_CASE("a pinned version stays until it is given back",
          "[integration][worker]") {
  Pair pair;
  REQUIRE_OK(pair.Start());
  REQUIRE_OK_AND_ASSIGN(
      const auto trainer,
      PatternedTrainer::Start(*pair.cluster, pair.model, "trainer", {0, 1}));
  REQUIRE_OK_AND_ASSIGN(const uint64_t first, trainer->WriteNextStep());
  REQUIRE_OK(pair.Sync());
  REQUIRE_OK_AND_ASSIGN(const auto reader, pair.cluster->Attach(0, "reader"));
  REQUIRE_OK_AND_ASSIGN(const v1::GetPlacementResponse held,
                        reader->GetPlacement("policy", "rollout"));
  REQUIRE_OK_AND_ASSIGN(auto pin, reader->Pin("policy", "rollout"));
  REQUIRE(pin->version() == first);
  REQUIRE_OK(trainer->WriteNextStep());
  REQUIRE_OK(pair.Sync());  // into the other copy
  REQUIRE_OK(trainer->WriteNextStep());
  v1::SyncRequest request;
  request.set_model("policy");
  request.set_source("trainer");
  request.add_destinations("rollout");
  request.mutable_wait_deadline()->set_nanos(200'000'000);
  // The third needs the pinned copy; the error says whose pin it is.
  CHECK_THAT(pair.cluster->client().Sync(request),
             StatusIs(absl::StatusCode::kDeadlineExceeded, "reader"));
  REQUIRE_OK_AND_ASSIGN(const int64_t step,
                        ReadStep(pair.model, held.layout(), pin->data()));
  CHECK(step == 1);
  pin.reset();
  CHECK_OK(pair.Sync());
}

}  // namespace
}  // namespace sluice::testing
