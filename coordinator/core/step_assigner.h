#ifndef SLUICE_COORDINATOR_CORE_STEP_ASSIGNER_H_
#define SLUICE_COORDINATOR_CORE_STEP_ASSIGNER_H_

// Turns what workers write into versions: once all members of a replica have
// ended the same step, its content is a version, durable before it is told.

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "common/command.h"
#include "coordinator/core/agent_registry.h"
#include "coordinator/core/durable_log.h"
#include "coordinator/core/event_log.h"
#include "coordinator/core/model_registry.h"

namespace sluice::coordinator {

// The last member to end a step gets its ack with the version; the others got
// theirs before, and all are told VersionAssigned.
class StepAssigner {
 public:
  StepAssigner(EventLog& log, DurableLog& store, AgentRegistry& agents,
               ModelRegistry& models)
      : log_(log), store_(store), agents_(agents), models_(models) {}

  // A worker changed its memory on this agent; acks it.
  void OnWrite(Rank rank, uint64_t event_id, const WriteEvent& write);
  // An inventory may have completed replicas of the placement.
  void OnInventory(Placement& placement);

 private:
  // An ack that waits for a version to be durable.
  struct WaitingAck {
    Rank rank = kNoRank;
    Incarnation incarnation;
    uint64_t event_id = 0;
    PlacementRef placement;
    int64_t replica = 0;
    int64_t step = 0;
  };

  void AssignAll(Placement& placement);
  void Tell(const StepAssignment& assignment);
  void LogWrite(Rank rank, const WriteEvent& write);

  EventLog& log_;
  DurableLog& store_;
  AgentRegistry& agents_;
  ModelRegistry& models_;
  std::vector<WaitingAck> waiting_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_STEP_ASSIGNER_H_
