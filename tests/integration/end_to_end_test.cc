// The main job with the daemons that users run: a checkpoint loaded, synced
// into another layout, changed, synced again; samples moved by each pattern.

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "tests/integration/checkpoint_rig.h"
#include "tests/integration/sample_set.h"
#include "tests/integration/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

constexpr TestCluster::Options kEight = {.nodes = 2, .agents_per_node = 4};

TEST_CASE("two versions of a checkpoint reach another layout bit by bit",
          "[integration][e2e]") {
  GeneratorOptions uneven = TinyCheckpoint();
  uneven.layers = 3;  // two stages: 2 and 1
  uneven.heads = 6;   // four ranks: 2, 2, 2, 0
  uneven.kv_heads = 3;
  uneven.intermediate = 175;
  uneven.vocab = 301;
  uneven.tied = false;
  const auto checkpoint = GENERATE_COPY(values({TinyCheckpoint(), uneven}));
  CAPTURE(checkpoint.vocab);
  REQUIRE_OK_AND_ASSIGN(const auto cluster, TestCluster::Start(kEight));
  REQUIRE_OK_AND_ASSIGN(
      const auto rig,
      CheckpointRig::Start(*cluster, {.checkpoint = checkpoint}));
  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult loaded, rig->Load());
  CHECK(loaded.version() == 1);

  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult first, rig->Sync());
  CHECK(first.version() == 1);
  REQUIRE_OK_AND_ASSIGN(const int64_t compared, rig->CheckRollout(1, 0));
  CHECK(compared > 0);

  REQUIRE_OK_AND_ASSIGN(const uint64_t version, rig->FlipSigns());
  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult second, rig->Sync());
  CHECK(second.version() == version);
  CHECK(second.plan_reused());
  CHECK(second.digests_compared() > 0);
  REQUIRE_OK_AND_ASSIGN(const int64_t again, rig->CheckRollout(version, 1));
  CHECK(again == compared);

  v1::VerifyRequest verify;
  verify.set_model("policy");
  verify.set_placement("rollout");
  verify.set_against("trainer");
  CHECK_OK(cluster->client().Verify(verify));
}

TEST_CASE("a plan's certificate is what the sync then moves",
          "[integration][e2e]") {
  REQUIRE_OK_AND_ASSIGN(const auto cluster, TestCluster::Start(kEight));
  REQUIRE_OK_AND_ASSIGN(const auto rig, CheckpointRig::Start(*cluster, {}));
  REQUIRE_OK(rig->Load());
  REQUIRE_OK_AND_ASSIGN(const v1::GetStatusResponse before,
                        cluster->client().GetStatus());
  REQUIRE_OK_AND_ASSIGN(const v1::PlanSyncResponse plan,
                        cluster->client().PlanSync(rig->SyncRequest()));
  CHECK(plan.transfers_size() > 0);
  REQUIRE_OK_AND_ASSIGN(const v1::GetStatusResponse after,
                        cluster->client().GetStatus());
  CHECK(StateInWords(after) == StateInWords(before));  // a dry run
  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult result, rig->Sync());
  CHECK(result.certificate().SerializeAsString() ==
        plan.certificate().SerializeAsString());
  CHECK(result.bytes().SerializeAsString() ==
        plan.certificate().bytes().SerializeAsString());
}

TEST_CASE("samples reach who wants them by every pattern",
          "[integration][e2e]") {
  constexpr int kSamples = 64;
  REQUIRE_OK_AND_ASSIGN(const auto cluster, TestCluster::Start(kEight));
  std::vector<std::unique_ptr<Worker>> workers;
  const SampleSet samples("sample-", kSamples);
  const int per_agent = kSamples / cluster->size();
  for (int agent = 0; agent < cluster->size(); ++agent) {
    REQUIRE_OK_AND_ASSIGN(auto worker, cluster->Attach(agent, "producer"));
    REQUIRE_OK(
        samples.Put(*worker, agent * per_agent, (agent + 1) * per_agent));
    workers.push_back(std::move(worker));
  }
  // data=2 x tensor=4: half of the samples on each of four agents.
  const std::vector<std::vector<int>> groups = {{0, 1, 2, 3}, {4, 5, 6, 7}};
  for (const v1::Pattern pattern :
       {v1::PATTERN_GATHER_SCATTER, v1::PATTERN_BROADCAST,
        v1::PATTERN_DIRECT}) {
    CAPTURE(v1::Pattern_Name(pattern));
    v1::RedistributeRequest request;
    request.set_pattern(pattern);
    for (size_t g = 0; g < groups.size(); ++g) {
      const int first = static_cast<int>(g) * kSamples / 2;
      *request.add_wants() = samples.WantOf(cluster->AgentNames(groups[g]),
                                            first, first + kSamples / 2);
    }
    REQUIRE_OK(cluster->client().Redistribute(request));
    for (size_t g = 0; g < groups.size(); ++g) {
      const int first = static_cast<int>(g) * kSamples / 2;
      for (const int agent : groups[g]) {
        CAPTURE(agent);
        CHECK_OK(samples.Check(*workers[static_cast<size_t>(agent)], first,
                               first + kSamples / 2));
      }
    }
    // Back to the same start: only the owners keep theirs.
    v1::ClearRequest clear;
    for (const std::string& id : samples.Ids(0, kSamples)) {
      clear.add_sample_ids(id);
    }
    clear.set_keep_owners(true);
    REQUIRE_OK(cluster->client().Clear(clear));
    CHECK_OK(samples.AwaitDropped(*workers[0], per_agent, kSamples / 2));
    CHECK_OK(samples.Check(*workers[0], 0, per_agent));
  }
}

TEST_CASE("status tells agents, models, operations, totals and events",
          "[integration][e2e]") {
  REQUIRE_OK_AND_ASSIGN(const auto cluster, TestCluster::Start(kEight));
  REQUIRE_OK_AND_ASSIGN(const auto rig, CheckpointRig::Start(*cluster, {}));
  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult loaded, rig->Load());
  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult result, rig->Sync());
  REQUIRE_OK_AND_ASSIGN(const v1::GetStatusResponse status,
                        cluster->client().GetStatus(100));
  CHECK_FALSE(status.cluster_id().empty());
  CHECK(status.epoch() == 1);
  CHECK_FALSE(status.recovering());
  REQUIRE(status.agents_size() == 8);
  for (int i = 0; i < status.agents_size(); ++i) {
    const v1::AgentStatus& agent = status.agents(i);
    CAPTURE(agent.name());
    CHECK(agent.rank() == i);
    CHECK(agent.name() == cluster->AgentName(i));
    CHECK(agent.node() == (i < 4 ? "node-0" : "node-1"));
    CHECK(agent.state() == v1::AGENT_STATE_ALIVE);
    CHECK(agent.incarnation() != 0);
    CHECK(agent.has_last_beat());
    CHECK(agent.parameter_bytes() > 0);
    CHECK(agent.memory_bytes() == kEight.agent_memory_bytes);
    REQUIRE(agent.workers_size() == 1);
    CHECK(agent.workers(0) == "trainer");
  }
  CHECK(ReplicaVersions(status, "policy", "trainer") ==
        std::vector<uint64_t>{1, 1});
  CHECK(ReplicaVersions(status, "policy", "rollout") ==
        std::vector<uint64_t>{1, 1});
  REQUIRE(status.operations_size() == 2);
  for (const v1::OperationInfo& operation : status.operations()) {
    CHECK(operation.update().phase() == v1::OPERATION_PHASE_DONE);
    CHECK(operation.error().empty());
  }
  // What a load reads it lands on its own device.
  CHECK(status.totals().bytes().same_device() ==
        loaded.bytes().same_device() + result.bytes().same_device());
  CHECK(status.totals().bytes().same_node() == result.bytes().same_node());
  CHECK(status.totals().bytes().between_nodes() ==
        result.bytes().between_nodes());
  CHECK(status.events_size() >= 8);
  for (int i = 1; i < status.events_size(); ++i) {
    CHECK(status.events(i).revision() > status.events(i - 1).revision());
  }
  CHECK(status.coordinator_rss_bytes() > 0);
  CHECK(status.coordinator_rss_bytes() < int64_t{100} << 20);
}

TEST_CASE("other meshes and numbers of agents work too", "[integration][e2e]") {
  REQUIRE_OK_AND_ASSIGN(const auto cluster,
                        TestCluster::Start({.nodes = 3, .agents_per_node = 1}));
  REQUIRE_OK_AND_ASSIGN(const auto rig,
                        CheckpointRig::Start(*cluster, {.pipe = 3,
                                                        .data = 1,
                                                        .tensor = 1,
                                                        .rollout_data = 1,
                                                        .rollout_tensor = 3}));
  REQUIRE_OK(rig->Load());
  REQUIRE_OK(rig->Sync());
  CHECK_OK(rig->CheckRollout(1, 0));
}

}  // namespace
}  // namespace sluice::testing
