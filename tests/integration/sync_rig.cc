#include "tests/integration/sync_rig.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "proto/sluice/v1/command.pb.h"
#include "tools/local_cluster/process.h"

namespace sluice::testing {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(1);
constexpr char kSource[] = "trainer";
constexpr char kTarget[] = "rollout";
const std::vector<int> kTrainers = {0, 3};
const std::vector<std::vector<int>> kReplicas = {{1, 2}, {4, 5}};

// A sync on a thread of its own, so that the test can kill meanwhile.
class BackgroundSync {
 public:
  explicit BackgroundSync(SyncRig& rig)
      : thread_([this, &rig] {
          status_ = rig.Sync().status();
          ended_at_ = absl::Now();
          done_.store(true);
        }) {}
  ~BackgroundSync() { Join(); }

  bool done() const { return done_.load(); }
  void Join() {
    if (thread_.joinable()) thread_.join();
  }
  // After Join.
  const absl::Status& status() const { return status_; }
  absl::Time ended_at() const { return ended_at_; }

 private:
  std::atomic<bool> done_{false};
  absl::Status status_;
  absl::Time ended_at_;
  std::thread thread_;
};

// Index of "agent-3"; -1 for the coordinator.
int AgentIndex(absl::string_view daemon) {
  int index = -1;
  if (!absl::StartsWith(daemon, "agent-") ||
      !absl::SimpleAtoi(daemon.substr(6), &index)) {
    return -1;
  }
  return index;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SyncRig>> SyncRig::Start(
    const Options& options) {
  std::unique_ptr<SyncRig> rig(new SyncRig());
  rig->model_ = PatternedModel("policy", options.rows);
  TestCluster::Options cluster;
  cluster.nodes = 2;
  cluster.agents_per_node = 3;
  cluster.lease = options.lease;
  cluster.failpoints = true;
  SLUICE_ASSIGN_OR_RETURN(rig->cluster_, TestCluster::Start(cluster));
  SLUICE_RETURN_IF_ERROR(rig->Register());
  SLUICE_ASSIGN_OR_RETURN(
      rig->trainer_,
      PatternedTrainer::Start(*rig->cluster_, rig->model_, kSource, kTrainers));
  SLUICE_RETURN_IF_ERROR(rig->trainer_->WriteNextStep().status());
  SLUICE_RETURN_IF_ERROR(rig->Sync().status());
  for (const std::vector<int>& replica : kReplicas) {
    SLUICE_ASSIGN_OR_RETURN(
        std::unique_ptr<ReplicaReader> reader,
        ReplicaReader::Start(*rig->cluster_, rig->model_, kTarget, replica,
                             rig->trainer_->steps()));
    SLUICE_RETURN_IF_ERROR(reader->ReadOnce().status());
    reader->Run();
    rig->readers_.push_back(std::move(reader));
  }
  return rig;
}

absl::Status SyncRig::Register() {
  Client& client = cluster_->client();
  v1::RegisterModelRequest model;
  *model.mutable_model() = model_;
  SLUICE_RETURN_IF_ERROR(client.RegisterModel(model).status());
  v1::RegisterPlacementRequest source;
  source.set_model(model_.name());
  source.set_placement(kSource);
  *source.mutable_mesh() =
      MeshOf({{"tensor", 2}}, cluster_->AgentNames(kTrainers));
  *source.mutable_layout() = RowLayout();
  source.set_storage(v1::STORAGE_LENT);
  SLUICE_RETURN_IF_ERROR(client.RegisterPlacement(source).status());
  v1::RegisterPlacementRequest target;
  target.set_model(model_.name());
  target.set_placement(kTarget);
  std::vector<int> agents;
  for (const std::vector<int>& replica : kReplicas) {
    agents.insert(agents.end(), replica.begin(), replica.end());
  }
  *target.mutable_mesh() =
      MeshOf({{"data", 2}, {"tensor", 2}}, cluster_->AgentNames(agents));
  *target.mutable_layout() = ServingLayout();
  target.set_storage(v1::STORAGE_ARENA);
  return client.RegisterPlacement(target).status();
}

absl::StatusOr<v1::OperationResult> SyncRig::Sync() {
  v1::SyncRequest request;
  request.set_model(model_.name());
  request.set_source(kSource);
  request.add_destinations(kTarget);
  request.mutable_deadline()->set_seconds(absl::ToInt64Seconds(kPatience));
  return cluster_->impatient_client().Sync(request);
}

absl::StatusOr<std::vector<int64_t>> SyncRig::MeasureBytes() {
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max() / 2;
  std::vector<std::unique_ptr<ArmedFailpoint>> armed;
  for (int agent = 0; agent < cluster_->size(); ++agent) {
    SLUICE_ASSIGN_OR_RETURN(
        std::unique_ptr<ArmedFailpoint> point,
        cluster_->Arm(cluster_->AgentName(agent), "agent.bytes", kNever));
    armed.push_back(std::move(point));
  }
  SLUICE_RETURN_IF_ERROR(trainer_->WriteNextStep().status());
  SLUICE_RETURN_IF_ERROR(Sync().status());
  std::vector<int64_t> bytes;
  for (const auto& point : armed) bytes.push_back(point->passed());
  return bytes;
}

absl::StatusOr<SyncRig::Ended> SyncRig::SyncWhileDying(const Death& death) {
  std::unique_ptr<ArmedFailpoint> armed;
  if (!death.failpoint.empty()) {
    SLUICE_ASSIGN_OR_RETURN(armed, cluster_->Arm(death.daemon, death.failpoint,
                                                 death.amount, death.action));
  }
  return AwaitEnd(death, armed.get());
}

absl::StatusOr<SyncRig::Ended> SyncRig::AwaitEnd(const Death& death,
                                                 const ArmedFailpoint* armed) {
  const local_cluster::Process process = cluster_->Daemon(death.daemon);
  const int agent = AgentIndex(death.daemon);
  const bool stops = death.action == FailpointControl::kStop;
  const absl::Time started = absl::Now();
  BackgroundSync sync(*this);
  std::optional<absl::Time> died;
  while (!sync.done() && !died.has_value()) {
    if (armed == nullptr && absl::Now() - started >= death.after) {
      SLUICE_RETURN_IF_ERROR(local_cluster::Signal(process, SIGKILL));
    }
    const bool gone = stops ? armed->fired() : !local_cluster::IsAlive(process);
    if (gone) died = absl::Now();
    if (!gone) absl::SleepFor(kPoll);
  }
  if (!died.has_value() && armed != nullptr) {
    const absl::Time until =
        death.certain ? absl::Now() + kPatience : absl::InfinitePast();
    while (!armed->fired() && absl::Now() < until) absl::SleepFor(kPoll);
    // Fired in the very moment in which the answer came, or behind it.
    if (armed->fired()) died = absl::Now();
  }
  if (died.has_value() && !stops) {
    SLUICE_RETURN_IF_ERROR(
        local_cluster::WaitForExit(process, kPatience).status());
    if (death.restart_at_once && agent >= 0) {
      SLUICE_RETURN_IF_ERROR(cluster_->RestartAgent(agent));
    }
  }
  if (died.has_value() && death.then) {
    SLUICE_RETURN_IF_ERROR(death.then());
  }
  sync.Join();
  Ended ended;
  ended.status = sync.status();
  ended.died = died.has_value();
  if (died.has_value()) {
    ended.took = std::max(absl::ZeroDuration(), sync.ended_at() - *died);
  }
  return ended;
}

absl::Status SyncRig::Revive(uint64_t version) {
  if (!local_cluster::IsAlive(cluster_->processes().coordinator())) {
    SLUICE_RETURN_IF_ERROR(cluster_->RestartCoordinator());
  }
  for (int agent = 0; agent < cluster_->size(); ++agent) {
    if (local_cluster::IsAlive(cluster_->Daemon(cluster_->AgentName(agent)))) {
      continue;
    }
    // Reaps it, if nobody did.
    local_cluster::WaitForExit(cluster_->Daemon(cluster_->AgentName(agent)),
                               kPatience)
        .IgnoreError();
    SLUICE_RETURN_IF_ERROR(cluster_->RestartAgent(agent));
  }
  SLUICE_RETURN_IF_ERROR(cluster_->AwaitAllAlive());
  return cluster_->AwaitStatus(
      absl::StrCat("trainer with version ", version, " lent again"),
      [&](const v1::GetStatusResponse& status) {
        const std::vector<uint64_t> versions =
            ReplicaVersions(status, model_.name(), kSource);
        return versions.size() == 1 && versions[0] == version;
      });
}

absl::Status SyncRig::ReviveAndSync(uint64_t version) {
  SLUICE_RETURN_IF_ERROR(Revive(version));
  SLUICE_ASSIGN_OR_RETURN(const v1::OperationResult result, Sync());
  if (result.version() != version) {
    return absl::InternalError(absl::StrCat("synced version ", result.version(),
                                            ", expected ", version));
  }
  SLUICE_RETURN_IF_ERROR(AwaitReplicas(version));
  for (const auto& reader : readers_) {
    SLUICE_ASSIGN_OR_RETURN(const uint64_t read, reader->ReadOnce());
    if (read != version) {
      return absl::InternalError(
          absl::StrCat("a reader is on version ", read, ", not ", version));
    }
  }
  return absl::OkStatus();
}

absl::Status SyncRig::AwaitReplicas(uint64_t version) {
  return cluster_->AwaitStatus(
      absl::StrCat("version ", version, " on all replicas"),
      [&](const v1::GetStatusResponse& status) {
        return ReplicaVersions(status, model_.name(), kTarget) ==
               std::vector<uint64_t>(kReplicas.size(), version);
      });
}

absl::Status SyncRig::StopReaders() {
  absl::Status first;
  for (const auto& reader : readers_) first.Update(reader->Stop());
  return first;
}

}  // namespace sluice::testing
