#ifndef SLUICE_COORDINATOR_CORE_CORE_STATE_H_
#define SLUICE_COORDINATOR_CORE_CORE_STATE_H_

// The parts of the core and what each event does to them. Internal to
// CoordinatorCore.

#include <deque>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/core/agent_registry.h"
#include "coordinator/core/catalog.h"
#include "coordinator/core/coordinator_core.h"
#include "coordinator/core/core_context.h"
#include "coordinator/core/decision_ledger.h"
#include "coordinator/core/durable_log.h"
#include "coordinator/core/event_log.h"
#include "coordinator/core/events.h"
#include "coordinator/core/id_allocator.h"
#include "coordinator/core/model_registry.h"
#include "coordinator/core/operation_tracker.h"
#include "coordinator/core/outcomes.h"
#include "coordinator/core/placement_definer.h"
#include "coordinator/core/status_view.h"
#include "coordinator/core/step_assigner.h"

namespace sluice::coordinator {

struct CoordinatorCore::State {
  explicit State(const CoreOptions& options);

  // coordinator_core.cc: start, time, store, planner
  void Dispatch(const Event& event);
  // After each event: what the parts found out about each other.
  void Settle();
  void CheckStall(absl::Time now);
  void Handle(const StartEvent& event);
  void Restore(const std::vector<Record>& records);
  void RestoreDecision(const DecisionRecord& record);
  void Handle(const TickEvent& event);
  void Handle(const PersistedEvent& event);
  void Handle(const PlanReadyEvent& event);
  void Handle(const CallerGoneEvent& event);

  // core_agents.cc
  void Handle(const RegisterAgentEvent& event);
  void Handle(const HeartbeatEvent& event);
  void Handle(const DrainEvent& event);
  void Handle(const StreamUpEvent& event);
  void Handle(const StreamDownEvent& event);
  void Handle(const AgentMessageEvent& event);
  void OnMessage(Agent& agent, uint64_t event_id, const CommandResult& result);
  void OnMessage(Agent& agent, uint64_t event_id, const InventoryEvent& page);
  void OnMessage(Agent& agent, uint64_t event_id, const ProgressEvent& event);
  void OnMessage(Agent& agent, uint64_t event_id, const VoteEvent& event);
  void OnMessage(Agent& agent, uint64_t event_id, const StoppedEvent& event);
  void OnMessage(Agent& agent, uint64_t event_id,
                 const SamplesAddedEvent& event);
  void OnMessage(Agent& agent, uint64_t event_id, const WriteEvent& event);
  void OnMessage(Agent& agent, uint64_t event_id, const DigestsEvent& event);
  void OnMessage(Agent& agent, uint64_t event_id, const WorkersEvent& event);
  void TakeInventory(Agent& agent);
  void TakeSamples(Agent& agent, InventoryEvent& inventory);
  void OnMembershipChange(const MembershipChange& change);
  void LogLoss(const std::string& agent, const Catalog::Loss& loss);

  // core_requests.cc
  void Handle(const RegisterModelRequest& request);
  void Handle(const RegisterPlacementRequest& request);
  void Handle(const RemovePlacementRequest& request);
  void Handle(const GetModelRequest& request);
  void Handle(const LoadRequest& request);
  void Handle(const SyncRequest& request);
  void Handle(const VerifyRequest& request);
  void Handle(const RedistributeRequest& request);
  void Handle(const CancelRequest& request);
  void Handle(const LocateRequest& request);
  void Handle(const ListSamplesRequest& request);
  void Handle(const ClearRequest& request);
  absl::Status TryLocate(const LocateRequest& request);
  absl::Status TryClear(const ClearRequest& request);
  void Clear(const ClearRequest& request, int64_t* dropped);
  void Handle(const StatusRequest& request);
  void Handle(const WatchEventsRequest& request);

  CoreContext context;
  EventLog log;
  DurableLog store;
  IdAllocator ids;
  Outcomes outcomes;
  AgentRegistry agents;
  Catalog catalog;
  ModelRegistry models;
  DecisionLedger decisions;
  OperationTracker operations;
  PlacementDefiner definer;
  StepAssigner steps;
  StatusSources sources;

  // The epoch is durable; until then events wait.
  bool started = false;
  std::vector<Event> held;
  absl::Time last_event = absl::InfinitePast();
  // Ids cleared everywhere, oldest first, so that an agent that was away does
  // not bring them back.
  std::deque<std::string> cleared_order;
  absl::flat_hash_set<std::string> cleared;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_CORE_STATE_H_
