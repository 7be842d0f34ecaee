#ifndef SLUICE_COORDINATOR_CORE_EFFECTS_H_
#define SLUICE_COORDINATOR_CORE_EFFECTS_H_

// Everything the coordinator orders, as values named as orders. The host runs
// them in the order given.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/command.h"
#include "coordinator/core/events.h"
#include "coordinator/core/operation_types.h"
#include "coordinator/core/records.h"
#include "coordinator/planner/casts.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

// Answers of unary calls.
struct RegisterAgentReply {
  Rank rank = kNoRank;
  Epoch epoch;
  std::string cluster_id;
  absl::Duration lease, heartbeat_interval;
};
struct HeartbeatReply {
  Epoch epoch;
};
struct DrainReply {};
struct RegisterModelReply {
  int64_t bytes = 0;
};
struct RegisterPlacementReply {
  std::vector<int64_t> bytes;  // by mesh index
  int64_t replicas = 0;
};
struct RemovePlacementReply {};
struct GetModelReply {
  ModelSpec model;
  Version version;
  std::vector<PlacementStatus> placements;
};
struct PlanReply {  // PlanSync, PlanRedistribution
  TransferPlan plan;
  std::vector<std::string> agent_of_rank;
  // Syncs: what is converted, and shards that cut quantisation blocks.
  std::vector<Cast> casts = {};
  std::vector<std::string> warnings = {};
};
struct CancelReply {};
struct LocateReply {
  std::vector<SampleLocation> locations;
};
struct ListSamplesReply {
  std::vector<std::string> sample_ids;
  std::string next_page_token;
  int64_t total = 0;
};
struct ClearReply {
  int64_t dropped = 0;
};
// For streaming calls (Load, Sync, Verify, Redistribute): the end, after the
// last StreamUpdate.
struct StreamEnd {};
struct WatchEventsReply {
  std::vector<StatusEvent> events;
};

using ReplyBody =
    std::variant<RegisterAgentReply, HeartbeatReply, DrainReply,
                 RegisterModelReply, RegisterPlacementReply,
                 RemovePlacementReply, GetModelReply, PlanReply, CancelReply,
                 LocateReply, ListSamplesReply, ClearReply, StatusSnapshot,
                 StreamEnd, WatchEventsReply>;

// Ends a call: a body if `status` is OK.
struct Reply {
  CallId call;
  absl::Status status;
  ReplyBody body;
};
// One message of a streaming call; the call goes on.
struct StreamUpdate {
  CallId call;
  OperationUpdate update;
};
// Opens (and keeps trying to open) the command stream to an incarnation; the
// host answers StreamUp when it is open, StreamDown when it breaks, and tries
// again until DisconnectAgent or another ConnectAgent for the rank.
struct ConnectAgent {
  Rank rank = kNoRank;
  Incarnation incarnation;
  std::string address;
};
struct DisconnectAgent {
  Rank rank = kNoRank;
};
// Writes to the open stream; dropped if it is not open to that incarnation
// (the core sends again after StreamUp).
struct SendCommand {
  Rank rank = kNoRank;
  Incarnation incarnation;
  Command command;
};
// Makes records durable, atomically and in order of the effects; the host
// answers PersistedEvent. Whatever must come after is held back by the core.
struct Persist {
  uint64_t persist_id = 0;
  std::vector<Record> records;
};
// Plans and validates off the serial thread; the host answers PlanReadyEvent.
struct MakePlan {
  OperationId operation;
  std::variant<ReshardInput, RedistributionInput> input;
};
// Ends the process: the durable state is not writable or another leader rules.
struct Fatal {
  absl::Status reason;
};

using Effect = std::variant<Reply, StreamUpdate, ConnectAgent, DisconnectAgent,
                            SendCommand, Persist, MakePlan, Fatal>;

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_EFFECTS_H_
