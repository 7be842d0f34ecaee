// A coordinator that died in its sleep and came back: agents return by
// themselves, what was known is known again, and until then nobody hears a
// false "not found".

#include <signal.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/integration/sync_rig.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

v1::SampleEntry Entry(const std::string& id, const std::string& key,
                      int64_t rows) {
  v1::SampleEntry entry;
  entry.set_sample_id(id);
  entry.set_key(key);
  entry.set_dtype(v1::DTYPE_I32);
  entry.add_sequence_lengths(rows);
  return entry;
}

// Puts `count` samples of one key on an agent.
absl::Status PutSamples(Worker& worker, const std::string& prefix, int count) {
  const std::vector<int32_t> data(64, 7);
  std::vector<SampleValue> values;
  for (int i = 0; i < count; ++i) {
    values.push_back(
        {Entry(absl::StrCat(prefix, i), "tokens", 64), data.data()});
  }
  return worker.PutSamples(values);
}

v1::LocateRequest LocateAll(const std::string& prefix, int count) {
  v1::LocateRequest request;
  for (int i = 0; i < count; ++i) {
    request.add_sample_ids(absl::StrCat(prefix, i));
  }
  return request;
}

TEST_CASE("after its restart a coordinator knows what it knew",
          "[integration][recovery]") {
  constexpr int kSamples = 50;
  REQUIRE_OK_AND_ASSIGN(const auto rig, SyncRig::Start({.rows = 256}));
  TestCluster& cluster = rig->cluster();
  std::vector<std::unique_ptr<Worker>> producers;
  for (int agent = 0; agent < cluster.size(); ++agent) {
    REQUIRE_OK_AND_ASSIGN(auto worker, cluster.Attach(agent, "producer"));
    REQUIRE_OK(PutSamples(*worker, absl::StrCat("s", agent, "-"), kSamples));
    producers.push_back(std::move(worker));
  }
  REQUIRE_OK_AND_ASSIGN(const v1::GetStatusResponse before,
                        cluster.client().GetStatus());
  REQUIRE_OK_AND_ASSIGN(const v1::LocateResponse located,
                        cluster.client().Locate(LocateAll("s2-", kSamples)));
  REQUIRE(before.samples() == kSamples * cluster.size());

  REQUIRE_OK(cluster.KillCoordinator());
  REQUIRE_OK(cluster.RestartCoordinator());
  const absl::Time started = absl::Now();
  REQUIRE_OK(cluster.AwaitAllAlive());
  CHECK(absl::Now() - started <= absl::Seconds(5));

  REQUIRE_OK_AND_ASSIGN(const v1::GetStatusResponse after,
                        cluster.client().GetStatus());
  CHECK(after.epoch() == before.epoch() + 1);
  CHECK(StateInWords(after) == StateInWords(before));
  REQUIRE_OK_AND_ASSIGN(const v1::LocateResponse again,
                        cluster.client().Locate(LocateAll("s2-", kSamples)));
  CHECK(again.SerializeAsString() == located.SerializeAsString());
  REQUIRE_OK_AND_ASSIGN(const uint64_t version, rig->trainer().WriteNextStep());
  REQUIRE_OK(rig->ReviveAndSync(version));
  CHECK_OK(rig->StopReaders());
}

TEST_CASE("a recovering coordinator names whom it awaits, never 'not found'",
          "[integration][recovery]") {
  REQUIRE_OK_AND_ASSIGN(
      const auto rig, SyncRig::Start({.rows = 256, .lease = absl::Seconds(5)}));
  TestCluster& cluster = rig->cluster();
  REQUIRE_OK_AND_ASSIGN(auto producer, cluster.Attach(4, "producer"));
  REQUIRE_OK(PutSamples(*producer, "s", 10));
  // agent-4 cannot return before it is let go on.
  REQUIRE_OK(local_cluster::Signal(cluster.Daemon("agent-4"), SIGSTOP));
  REQUIRE_OK(cluster.KillCoordinator());
  REQUIRE_OK(cluster.RestartCoordinator());
  REQUIRE_OK(cluster.AwaitStatus(
      "agent-4 awaited alone", [](const v1::GetStatusResponse& status) {
        return status.recovering() && status.awaited_size() == 1 &&
               status.awaited(0) == "agent-4";
      }));

  Client& client = cluster.impatient_client();
  const auto is_awaited = [] {
    return StatusIs(absl::StatusCode::kUnavailable, "agent-4");
  };
  CHECK_THAT(client.Locate(LocateAll("s", 10)), is_awaited());
  CHECK_THAT(client.Locate(LocateAll("nobody-", 1)), is_awaited());
  CHECK_THAT(client.ListSamples({}), is_awaited());
  v1::ClearRequest clear;
  clear.add_sample_ids("s0");
  CHECK_THAT(client.Clear(clear), is_awaited());
  v1::RedistributeRequest move;
  move.set_pattern(v1::PATTERN_DIRECT);
  move.add_wants()->add_agents("agent-1");
  move.mutable_wants(0)->add_sample_ids("s0");
  move.mutable_wants(0)->add_keys("tokens");
  CHECK_THAT(client.Redistribute(move), is_awaited());
  CHECK_THAT(rig->Sync(), is_awaited());
  v1::LoadRequest load;
  load.set_model(rig->model());
  load.set_placement("rollout");
  load.set_directory("/nowhere");
  CHECK_THAT(client.Load(load), is_awaited());
  CHECK_OK(client.GetModel(rig->model()));

  REQUIRE_OK(local_cluster::Signal(cluster.Daemon("agent-4"), SIGCONT));
  REQUIRE_OK(cluster.AwaitAllAlive());
  CHECK_OK(client.Locate(LocateAll("s", 10)));
  CHECK_THAT(client.Locate(LocateAll("nobody-", 1)),
             StatusIs(absl::StatusCode::kNotFound, "nobody-0"));
  REQUIRE_OK_AND_ASSIGN(const uint64_t version, rig->trainer().WriteNextStep());
  REQUIRE_OK(rig->ReviveAndSync(version));
  CHECK_OK(rig->StopReaders());
}

TEST_CASE("a client that retries gets the one outcome across a restart",
          "[integration][recovery]") {
  REQUIRE_OK_AND_ASSIGN(const auto rig, SyncRig::Start({.rows = 256}));
  TestCluster& cluster = rig->cluster();
  REQUIRE_OK_AND_ASSIGN(const uint64_t version, rig->trainer().WriteNextStep());
  v1::SyncRequest request;
  request.set_request_id("only-once");
  request.set_model(rig->model());
  request.set_source("trainer");
  request.add_destinations("rollout");
  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult first,
                        cluster.client().Sync(request));
  REQUIRE(first.version() == version);
  REQUIRE_OK_AND_ASSIGN(const uint64_t newer, rig->trainer().WriteNextStep());
  REQUIRE(newer > version);
  REQUIRE_OK(cluster.KillCoordinator());
  REQUIRE_OK(cluster.RestartCoordinator());
  REQUIRE_OK(cluster.AwaitAllAlive());
  // The same request again: its first outcome, not a sync of the newer version.
  REQUIRE_OK_AND_ASSIGN(const v1::OperationResult second,
                        cluster.client().Sync(request));
  CHECK(second.version() == version);
  CHECK_OK(rig->AwaitReplicas(version));
  CHECK_OK(rig->StopReaders());
}

}  // namespace
}  // namespace sluice::testing
