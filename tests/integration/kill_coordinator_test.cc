// The coordinator killed around the decision of a sync and in its sleep; what
// its agents, workers and clients see until it is back, and after.

#include <signal.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "tests/integration/sync_rig.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

// From the coordinator's start to all agents back, by themselves.
constexpr absl::Duration kRejoinsWithin = absl::Seconds(5);
constexpr int kKillsPerPlace = 20;

// Kills the coordinator at a point of a sync and starts it again. The new life
// must bring all replicas to `*version` (the sync's own if it was decided).
void KillOnce(SyncRig& rig, const std::string& point, int64_t amount,
              bool decided, uint64_t& version) {
  CAPTURE(point, amount);
  const uint64_t old_version = version;
  REQUIRE_OK_AND_ASSIGN(version, rig.trainer().WriteNextStep());
  REQUIRE_OK_AND_ASSIGN(
      const SyncRig::Ended ended,
      rig.SyncWhileDying(
          {.daemon = "coordinator", .failpoint = point, .amount = amount}));
  REQUIRE(ended.died);
  CHECK(ended.took <= absl::Seconds(3));
  // A caller that got its answer before the last commit was sent has it.
  if (!decided) CHECK(!ended.status.ok());
  REQUIRE_OK(rig.cluster().RestartCoordinator());
  const absl::Time started = absl::Now();
  REQUIRE_OK(rig.cluster().AwaitAllAlive());
  CHECK(absl::Now() - started <= kRejoinsWithin);
  REQUIRE_OK(rig.AwaitReplicas(decided ? version : old_version));
  for (int i = 0; i < rig.num_replicas(); ++i) {
    REQUIRE_OK_AND_ASSIGN(const uint64_t read,
                          rig.reader(static_cast<size_t>(i)).ReadOnce());
    CHECK(read == (decided ? version : old_version));
  }
  REQUIRE_OK(rig.ReviveAndSync(version));
}

TEST_CASE("a coordinator killed before its decision rolls the sync back",
          "[integration][kill]") {
  REQUIRE_OK_AND_ASSIGN(const auto rig, SyncRig::Start({.rows = 256}));
  REQUIRE_OK_AND_ASSIGN(uint64_t version, rig->reader(0).ReadOnce());
  for (int i = 0; i < kKillsPerPlace; ++i) {
    KillOnce(*rig, "coordinator.before_decision", 1, /*decided=*/false,
             version);
  }
  CHECK_OK(rig->StopReaders());
}

TEST_CASE("a coordinator killed after its decision rolls the sync forward",
          "[integration][kill]") {
  REQUIRE_OK_AND_ASSIGN(const auto rig, SyncRig::Start({.rows = 256}));
  REQUIRE_OK_AND_ASSIGN(uint64_t version, rig->reader(0).ReadOnce());
  for (int i = 0; i < kKillsPerPlace; ++i) {
    KillOnce(*rig, "coordinator.after_decision", 1, /*decided=*/true, version);
  }
  for (int i = 0; i < kKillsPerPlace; ++i) {
    // One commit for each of the six agents.
    KillOnce(*rig, "coordinator.commit_sent", 1 + i % rig->cluster().size(),
             /*decided=*/true, version);
  }
  CHECK_OK(rig->StopReaders());
}

TEST_CASE("a coordinator killed in mid-transfer aborts on all agents",
          "[integration][kill]") {
  REQUIRE_OK_AND_ASSIGN(const auto rig, SyncRig::Start({.rows = 4096}));
  REQUIRE_OK_AND_ASSIGN(const std::vector<int64_t> bytes, rig->MeasureBytes());
  // Half of what agent-4 lands is there when the coordinator dies.
  TestCluster& cluster = rig->cluster();
  SyncRig::Death stop;
  stop.daemon = "agent-4";
  stop.failpoint = "agent.bytes";
  stop.amount = bytes[4] / 2;
  stop.action = FailpointControl::kStop;
  stop.then = [&] {
    absl::Status killed = cluster.KillCoordinator();
    killed.Update(local_cluster::Signal(cluster.Daemon("agent-4"), SIGCONT));
    return killed;
  };
  REQUIRE_OK_AND_ASSIGN(const uint64_t old_version, rig->reader(0).ReadOnce());
  REQUIRE_OK_AND_ASSIGN(const uint64_t version, rig->trainer().WriteNextStep());
  REQUIRE_OK_AND_ASSIGN(const SyncRig::Ended ended, rig->SyncWhileDying(stop));
  REQUIRE(ended.died);
  CHECK(!ended.status.ok());
  REQUIRE_OK(cluster.RestartCoordinator());
  REQUIRE_OK(cluster.AwaitAllAlive());
  REQUIRE_OK(rig->AwaitReplicas(old_version));
  REQUIRE_OK(rig->ReviveAndSync(version));
  CHECK_OK(rig->StopReaders());
}

}  // namespace
}  // namespace sluice::testing
