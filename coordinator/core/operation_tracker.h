#ifndef SLUICE_COORDINATOR_CORE_OPERATION_TRACKER_H_
#define SLUICE_COORDINATOR_CORE_OPERATION_TRACKER_H_

// Loads, syncs, redistributions and verifications from request to reply: who
// may run when, what agents are told, what is decided.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/command.h"
#include "coordinator/core/agent_registry.h"
#include "coordinator/core/catalog.h"
#include "coordinator/core/core_context.h"
#include "coordinator/core/decision_ledger.h"
#include "coordinator/core/durable_log.h"
#include "coordinator/core/event_log.h"
#include "coordinator/core/id_allocator.h"
#include "coordinator/core/message_groups.h"
#include "coordinator/core/model_registry.h"
#include "coordinator/core/operation.h"
#include "coordinator/core/outcomes.h"
#include "coordinator/core/plan_cache.h"

namespace sluice::coordinator {

// Life of an operation that moves something:
//
//   QUEUED --1--> PLANNING --2--> PREPARING --3--> EXECUTING --4--> COMMITTING
//      |              |               |                |                |5
//      +------6-------+               +-------7--------+               DONE
//             v                               v
//           FAILED <------------8--------- ABORTING
//
// 1 no operation before it needs the same; its source has a version.
// 2 the plan is there (made, or kept) and staging memory is free on all agents.
// 3 all have prepared. 4 all have voted: the decision is written.
// 5 it is written: all live agents have confirmed, or the time is over.
// 6 refused before anything was told to agents.
// 7 the first failure, a deadline, a lost agent, a cancel.
// 8 all that can be reached have stopped, or the time is over.
//
// A load starts in PREPARING; a verification in EXECUTING and ends there.
//
// Thread rule: not thread-safe; used inside Step() only.
//
// Invariants: operations that conflict run in order of their ids; staging held
// on an agent never exceeds its budget; Commit is sent only after the decision
// is durable, Abort only while it was not ordered.
class OperationTracker {
 public:
  struct Deps {
    CoreContext& context;
    EventLog& log;
    DurableLog& store;
    IdAllocator& ids;
    Outcomes& outcomes;
    AgentRegistry& agents;
    Catalog& catalog;
    ModelRegistry& models;
    DecisionLedger& decisions;
  };

  explicit OperationTracker(const Deps& deps) : d_(deps) {}
  OperationTracker(const OperationTracker&) = delete;
  OperationTracker& operator=(const OperationTracker&) = delete;

  // --- clients. Errors (as replies): see ModelService and CatalogService.
  void Start(const LoadRequest& request) { StartAny(request); }
  void Start(const SyncRequest& request) { StartAny(request); }
  void Start(const RedistributeRequest& request) { StartAny(request); }
  void Start(const VerifyRequest& request) { StartAny(request); }
  void Cancel(const CancelRequest& request);
  void CallerGone(CallId call);

  // --- planner
  void OnPlanReady(const PlanReadyEvent& event);

  // --- agents. `command` is what the result answers.
  void OnResult(Rank rank, const Command& command, const absl::Status& outcome);
  void OnVote(Rank rank, const VoteEvent& vote);
  void OnProgress(Rank rank, const ProgressEvent& progress);
  void OnStopped(Rank rank, OperationId id);
  void OnDigests(Rank rank, const DigestsEvent& digests);
  // What the agent says is under way there: operations nobody knows are
  // aborted, decided ones committed.
  void OnInventory(Rank rank, const InventoryEvent& inventory);
  void OnMembershipChange(const MembershipChange& change);

  // --- time
  void Tick();
  void ExtendDeadlines(absl::Duration gap);
  // Something changed that queued operations may wait for.
  void Wake() { awake_ = true; }
  // Lets queued operations go on; at the end of each step.
  void Pump();

  // --- views
  // Whether a running operation uses the placement.
  bool Uses(const PlacementRef& ref) const;
  // Returns the operation that moves an entry; 0 if none.
  OperationId UserOf(Catalog::EntryId entry) const;
  // Running ones first, then recent ones, newest first.
  std::vector<OperationInfo> Describe() const;
  bool Idle() const { return running_.empty(); }
  const LinkBytes& total_bytes() const { return total_bytes_; }
  const std::array<double, kNumLinkClasses>& total_seconds() const {
    return total_seconds_;
  }

 private:
  struct SourceChoice {
    Version version;
    std::vector<int64_t> replicas;
    bool pending = false;  // a writer is at work: wait
    absl::Status error;
  };

  // operation_tracker.cc: requests, callers, the end
  template <typename Request>
  void StartAny(const Request& request);
  template <typename Request>
  absl::Status TryStart(const Request& request);
  void AttachToOutcome(CallId call, OperationId id, OperationKind kind,
                       const Outcomes::Outcome& outcome);
  void Update(Operation& op);
  OperationUpdate MakeUpdate(const Operation& op) const;
  OperationResult MakeResult(const Operation& op) const;
  std::vector<std::string> WaitingFor(const Operation& op) const;
  void Enter(Operation& op, OperationPhase phase);
  void FinishOk(Operation& op);
  void FinishFailed(Operation& op);
  void Finished(Operation& op);
  void Reap();
  std::string Title(const Operation& op) const;
  Operation* FindRunning(OperationId id);

  // operation_admission.cc
  bool MayLeaveQueue(const Operation& op) const;
  void Admit(Operation& op);
  void PlanReady(Operation& op);
  absl::Status SetParticipants(Operation& op);
  absl::Status CheckSampleMemory(const Operation& op) const;
  void TryReserveStaging();
  void ReserveStaging(Operation& op);
  Topology MakeTopology() const;

  // operation_sync.cc
  absl::Status Check(const SyncRequest& request, Operation& op);
  absl::Status CheckMembers(const Placement& placement) const;
  SourceChoice ChooseSource(const Placement& source) const;
  absl::Status CheckNoWayBack(const Placement& destination,
                              const Placement& source, Version version) const;
  absl::Status BindSync(Operation& op, ReshardInput* input, bool* pending);
  std::string SyncKey(const Operation& op, const ReshardInput& input) const;
  void AdmitSync(Operation& op);

  // operation_redistribute.cc
  absl::Status Check(const RedistributeRequest& request, Operation& op);
  absl::Status CheckWants(const RedistributeRequest& request,
                          std::vector<std::vector<Rank>>* ranks) const;
  absl::StatusOr<RedistributionInput> Resolve(
      const RedistributeRequest& request, Operation& op) const;
  absl::StatusOr<SampleHolding> MakeHolding(
      const Catalog::Located& located) const;
  void AdmitRedistribute(Operation& op);

  // operation_load.cc
  absl::Status Check(const LoadRequest& request, Operation& op);
  absl::Status CheckLoadable(const Placement& placement) const;
  void AdmitLoad(Operation& op);
  void OnLoadRefused(Operation& op, Participant& participant);

  // operation_verify.cc
  absl::Status Check(const VerifyRequest& request, Operation& op);
  absl::Status ChooseVerifiedVersion(Operation& op) const;
  void AdmitVerify(Operation& op);
  void ReadNext(Operation& op);
  void OnDigestsRead(Operation& op, Participant& participant,
                     const absl::Status& outcome);
  void FinishReading(Operation& op);

  // operation_run.cc: prepare, execute, vote
  void Prepare(Operation& op);
  absl::Status FormGroup(Operation& op);
  void SendPrepare(Operation& op, Participant& participant);
  void OnPrepareAnswered(Operation& op, Participant& participant,
                         const PrepareCommand& prepare,
                         const absl::Status& outcome);
  void OnLoadAnswered(Operation& op, Participant& participant,
                      const absl::Status& outcome);
  void AfterPrepared(Operation& op);
  void Execute(Operation& op);
  void AfterVote(Operation& op);

  // operation_commit.cc
  void Decide(Operation& op);
  Decision MakeDecision(const Operation& op) const;
  void OnDecided(OperationId id, const absl::Status& status,
                 const OutcomeRecord& outcome);
  void OnCommitAnswered(Rank rank, OperationId id, const absl::Status& outcome);
  void ApplyCommit(Rank rank, const Decision& decision);
  void AfterConfirmed(Operation& op);

  // operation_abort.cc
  void Fail(Operation& op, const absl::Status& status);
  void FailBy(Operation& op, Rank rank, const absl::Status& status);
  void MarkStopped(Operation& op, Participant& participant);
  void AfterStopped(Operation& op);
  void NameBrokenOff(Operation& op);
  void TearLent(const Operation& op, const Participant& participant);

  // operation_timers.cc
  void TickOperation(Operation& op);
  void TickExecuting(Operation& op);
  absl::Duration PatienceOfOthers(const Operation& op) const;

  // operation_recovery.cc
  void ReconcileRunning(Rank rank, const InventoryEvent& inventory);
  void ReconcileDecided(Rank rank, const InventoryEvent& inventory);
  void EndUnknown(Rank rank, const InventoryEvent& inventory);

  const Deps d_;
  PlanCache plans_;
  MessageGroups groups_;
  std::map<OperationId, std::unique_ptr<Operation>> running_;
  std::deque<OperationInfo> recent_;  // newest first
  bool awake_ = false;
  LinkBytes total_bytes_{};
  std::array<double, kNumLinkClasses> total_seconds_{};
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_OPERATION_TRACKER_H_
