// Agents killed at every kind of moment of a sync, with real processes and with
// readers that pin versions on all ranks of a replica and look at every byte.

#include <signal.h>

#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/integration/sync_rig.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

// From an agent's death to the end of the sync.
constexpr absl::Duration kEndsWithin = absl::Seconds(3);

// The error of a sync must name the agent and the phase.
void CheckNames(const absl::Status& status, const std::string& agent) {
  const std::string message(status.message());
  CAPTURE(message);
  CHECK(absl::StrContains(message, agent));
  const bool names_phase = absl::StrContains(message, "while preparing") ||
                           absl::StrContains(message, "while executing") ||
                           absl::StrContains(message, "while committing");
  CHECK(names_phase);
}

// How a sync may end for one place of death.
enum class Outcome { kFails, kSucceeds, kEither };

struct Tally {
  int died = 0;
  int failed = 0;
  int succeeded = 0;
};

// Writes a step, syncs it while `death` strikes, and brings all to that step.
void KillOnce(SyncRig& rig, const SyncRig::Death& death, Outcome outcome,
              Tally& tally) {
  INFO(death.daemon << " at " << death.failpoint << " amount " << death.amount
                    << " after " << absl::FormatDuration(death.after)
                    << (death.restart_at_once ? ", restarted at once" : ""));
  REQUIRE_OK_AND_ASSIGN(const uint64_t version, rig.trainer().WriteNextStep());
  REQUIRE_OK_AND_ASSIGN(const SyncRig::Ended ended, rig.SyncWhileDying(death));
  CHECK(ended.took <= kEndsWithin);
  if (ended.died) {
    ++tally.died;
    ++(ended.status.ok() ? tally.succeeded : tally.failed);
    if (outcome == Outcome::kFails) CHECK(!ended.status.ok());
    if (outcome == Outcome::kSucceeds) CHECK_OK(ended.status);
    if (!ended.status.ok()) CheckNames(ended.status, death.daemon);
  } else {
    CHECK_OK(ended.status);
  }
  REQUIRE_OK(rig.ReviveAndSync(version));
}

TEST_CASE("an agent killed at any byte of a sync ends it and the next succeeds",
          "[integration][kill]") {
  constexpr int kKills = 54;  // nine of each agent
  REQUIRE_OK_AND_ASSIGN(const auto rig, SyncRig::Start({.rows = 4096}));
  REQUIRE_OK_AND_ASSIGN(const std::vector<int64_t> bytes, rig->MeasureBytes());
  std::mt19937_64 random(Catch::rngSeed());
  Tally tally;
  for (int i = 0; tally.died < kKills; ++i) {
    REQUIRE(i < 2 * kKills);
    const int agent = i % rig->cluster().size();
    SyncRig::Death death;
    death.daemon = rig->cluster().AgentName(agent);
    death.restart_at_once = i % 2 == 0;
    CAPTURE(bytes);
    REQUIRE(bytes[static_cast<size_t>(agent)] > 0);
    death.failpoint = "agent.bytes";
    death.amount = std::uniform_int_distribution<int64_t>(
        1, bytes[static_cast<size_t>(agent)])(random);
    KillOnce(*rig, death, Outcome::kFails, tally);
  }
  CHECK_OK(rig->StopReaders());
  for (int replica = 0; replica < rig->num_replicas(); ++replica) {
    CHECK(rig->reader(static_cast<size_t>(replica)).num_reads() >= kKills);
  }
}

TEST_CASE("an agent killed beside its vote or commit leaves one version",
          "[integration][kill]") {
  struct Place {
    std::string failpoint;
    Outcome outcome;
  };
  // After the vote was handed to the stream it may or may not have left. A
  // commit is only sent once the decision is written.
  const std::vector<Place> places = {
      {"agent.prepare", Outcome::kFails},
      {"agent.before_vote", Outcome::kFails},
      {"agent.after_vote", Outcome::kEither},
      {"agent.before_commit", Outcome::kSucceeds},
      {"agent.after_commit", Outcome::kSucceeds}};
  constexpr int kKillsPerPlace = 20;
  REQUIRE_OK_AND_ASSIGN(const auto rig, SyncRig::Start({.rows = 256}));
  for (const Place& place : places) {
    Tally tally;
    for (int i = 0; i < kKillsPerPlace; ++i) {
      SyncRig::Death death;
      death.daemon = rig->cluster().AgentName(i % rig->cluster().size());
      death.failpoint = place.failpoint;
      death.certain = true;
      // Only a new life tells the coordinator at once; without it the broken
      // stream does, after its grace.
      death.restart_at_once = i % 4 != 0;
      KillOnce(*rig, death, place.outcome, tally);
    }
    CAPTURE(place.failpoint);
    CHECK(tally.died == kKillsPerPlace);
  }
  CHECK_OK(rig->StopReaders());
}

TEST_CASE("an agent stopped during a sync ends it within its lease and rejoins",
          "[integration][stop]") {
  constexpr absl::Duration kLease = absl::Seconds(3);
  REQUIRE_OK_AND_ASSIGN(const auto rig,
                        SyncRig::Start({.rows = 4096, .lease = kLease}));
  REQUIRE_OK_AND_ASSIGN(const std::vector<int64_t> bytes, rig->MeasureBytes());
  for (int agent = 0; agent < rig->cluster().size(); ++agent) {
    SyncRig::Death death;
    death.daemon = rig->cluster().AgentName(agent);
    death.failpoint = agent % 2 == 0 ? "agent.bytes" : "agent.before_vote";
    death.amount = agent % 2 == 0 ? bytes[static_cast<size_t>(agent)] / 2 : 1;
    death.action = FailpointControl::kStop;
    CAPTURE(death.daemon, death.failpoint, death.amount);
    REQUIRE_OK_AND_ASSIGN(const uint64_t version,
                          rig->trainer().WriteNextStep());
    REQUIRE_OK_AND_ASSIGN(const SyncRig::Ended ended,
                          rig->SyncWhileDying(death));
    REQUIRE(ended.died);
    REQUIRE(!ended.status.ok());
    CheckNames(ended.status, death.daemon);
    CHECK(ended.took <= kLease + absl::Seconds(2));
    REQUIRE_OK(
        local_cluster::Signal(rig->cluster().Daemon(death.daemon), SIGCONT));
    REQUIRE_OK(rig->ReviveAndSync(version));
  }
  CHECK_OK(rig->StopReaders());
}

}  // namespace
}  // namespace sluice::testing
