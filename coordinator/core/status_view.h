#ifndef SLUICE_COORDINATOR_CORE_STATUS_VIEW_H_
#define SLUICE_COORDINATOR_CORE_STATUS_VIEW_H_

// What the cluster is doing, as values for people and monitors. Reads only.

#include <cstdint>

#include "coordinator/core/agent_registry.h"
#include "coordinator/core/catalog.h"
#include "coordinator/core/core_context.h"
#include "coordinator/core/event_log.h"
#include "coordinator/core/model_registry.h"
#include "coordinator/core/operation_tracker.h"
#include "coordinator/core/operation_types.h"

namespace sluice::coordinator {

// The parts of the core a snapshot is taken of.
struct StatusSources {
  const CoreContext& context;
  const EventLog& log;
  const AgentRegistry& agents;
  const Catalog& catalog;
  const ModelRegistry& models;
  const OperationTracker& operations;
};

// Returns the snapshot with at most `max_events` newest events; 0 means 20.
StatusSnapshot MakeStatus(const StatusSources& sources, int32_t max_events);

// Returns one model with its placements, by name.
GetModelReply DescribeModel(const StatusSources& sources, const Model& model);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_STATUS_VIEW_H_
