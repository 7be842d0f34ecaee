#ifndef SLUICE_TESTS_INTEGRATION_SYNC_RIG_H_
#define SLUICE_TESTS_INTEGRATION_SYNC_RIG_H_

// What the tests that kill daemons share: six agents on two nodes, a trainer on
// one agent of each node that writes step after step, two serving replicas (one
// per node, two ranks each) whose readers never stop, and syncs during which a
// daemon dies.
//
//   node-0: agent-0 trains; agent-1, agent-2 are replica 0
//   node-1: agent-3 trains; agent-4, agent-5 are replica 1
//
// Half of what a replica needs is on the other node; what both ranks need
// crosses once and is passed on by one of them.

#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/sluice/v1/operation.pb.h"
#include "tests/integration/patterned_model.h"
#include "tests/integration/replica_reader.h"
#include "tests/integration/test_cluster.h"

namespace sluice::testing {

class SyncRig {
 public:
  struct Options {
    int64_t rows = 2048;  // see PatternedModel
    absl::Duration lease = absl::Seconds(3);
  };
  // How a daemon is killed while a sync runs: at a failpoint, or so long after
  // the sync was asked for.
  struct Death {
    std::string daemon = "";
    std::string failpoint = "";
    int64_t amount = 1;
    absl::Duration after = absl::ZeroDuration();
    FailpointControl::Action action = FailpointControl::kKill;
    // Every sync passes the failpoint, some only after the caller's answer: the
    // death is waited for, also then.
    bool certain = false;
    // Starts it again as soon as it is dead, not only after the sync.
    bool restart_at_once = false;
    // Called as soon as it is dead or stopped, on the test's thread.
    std::function<absl::Status()> then = {};
  };
  // What the caller of the sync met.
  struct Ended {
    absl::Status status;
    bool died = false;
    // From the death (or the stop) to the answer.
    absl::Duration took = absl::ZeroDuration();
  };

  // Starts the cluster with failpoints, registers, and syncs step 1.
  static absl::StatusOr<std::unique_ptr<SyncRig>> Start(const Options& options);

  TestCluster& cluster() { return *cluster_; }
  PatternedTrainer& trainer() { return *trainer_; }
  ReplicaReader& reader(size_t replica) { return *readers_.at(replica); }
  int num_replicas() const { return static_cast<int>(readers_.size()); }
  const std::string& model() const { return model_.name(); }

  // Syncs the trainer's newest version, by a client that does not retry.
  absl::StatusOr<v1::OperationResult> Sync();
  // Bytes that each agent lands or sends in one sync, by index.
  absl::StatusOr<std::vector<int64_t>> MeasureBytes();

  // Syncs while a daemon dies. Errors: of the test, not of the sync.
  absl::StatusOr<Ended> SyncWhileDying(const Death& death);

  // Starts what is dead, waits until all agents are there and the trainer's
  // memory is lent again.
  absl::Status Revive(uint64_t version);
  // Revives; then a sync succeeds and all replicas and readers are on
  // `version`.
  absl::Status ReviveAndSync(uint64_t version);
  // Whether every replica publishes `version`, as the coordinator says.
  absl::Status AwaitReplicas(uint64_t version);
  // Ends the readers. Errors: what they should not have seen.
  absl::Status StopReaders();

 private:
  SyncRig() = default;
  absl::Status Register();
  absl::StatusOr<Ended> AwaitEnd(const Death& death,
                                 const ArmedFailpoint* armed);

  v1::ModelSpec model_;
  std::unique_ptr<TestCluster> cluster_;
  std::unique_ptr<PatternedTrainer> trainer_;
  std::vector<std::unique_ptr<ReplicaReader>> readers_;
};

}  // namespace sluice::testing

#endif  // SLUICE_TESTS_INTEGRATION_SYNC_RIG_H_
