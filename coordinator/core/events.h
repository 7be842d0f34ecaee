#ifndef SLUICE_COORDINATOR_CORE_EVENTS_H_
#define SLUICE_COORDINATOR_CORE_EVENTS_H_

// Everything that happens to the coordinator, as values. `CallId` names an RPC
// that waits; the host makes them and they are never reused.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/nccl_report.h"
#include "common/plan.h"
#include "common/reduce_report.h"
#include "coordinator/core/operation_types.h"
#include "coordinator/core/records.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator {

using CallId = StrongId<struct CallIdTag>;

// --- start, time, store, planner, callers ------------------------------------

// The first event of a life: everything the store held. `new_cluster_id` is
// used if there is no ClusterRecord. The core raises the epoch and persists it
// before it answers anybody.
struct StartEvent {
  std::vector<Record> records;
  std::string new_cluster_id;
};
struct TickEvent {};
// A Persist effect is durable (or failed: the core then refuses mutations).
struct PersistedEvent {
  uint64_t persist_id = 0;
  absl::Status status;
};
// A MakePlan effect's answer: planned and passed by the validator.
struct PlanReadyEvent {
  OperationId operation;
  absl::StatusOr<TransferPlan> plan = absl::UnknownError("unset");
};
// The caller of a waiting call is gone (cancelled or disconnected).
struct CallerGoneEvent {
  CallId call;
};

// --- agents
// -------------------------------------------------------------------

struct RegisterAgentEvent {
  CallId call;
  std::string name, node, address, socket_path, network_address, cluster_id;
  std::string device, device_description, boot_id;
  Incarnation incarnation;
  int64_t memory_bytes = 0, staging_bytes = 0, pid = 0;
  int32_t nccl_version = 0;  // 0: no NCCL
  std::string nccl_device;   // the same of two: they share a GPU
};
struct HeartbeatEvent {
  CallId call;
  std::string name;
  Incarnation incarnation;
  std::vector<ReduceGroupReport> reduce_groups = {};
  NcclReport nccl = {};
};
struct DrainEvent {
  CallId call;
  std::string name;
  Incarnation incarnation;
};
// The command stream to this incarnation is open / broken.
struct StreamUpEvent {
  Rank rank = kNoRank;
  Incarnation incarnation;
};
struct StreamDownEvent {
  Rank rank = kNoRank;
  Incarnation incarnation;
};
struct AgentMessageEvent {
  Rank rank = kNoRank;
  AgentEvent event;
};

// --- clients
// --------------------------------------------------------------------
// request_id empty: no retry protection. `fingerprint` is a hash of the request
// without its id.

struct RegisterModelRequest {
  CallId call;
  std::string request_id;
  uint64_t fingerprint = 0;
  ModelSpec model;
};
struct RegisterPlacementRequest {
  CallId call;
  std::string request_id;
  uint64_t fingerprint = 0;
  std::string model, placement;
  std::vector<MeshAxis> axes;
  std::vector<std::string> agents;
  Layout layout;
  Storage storage = Storage::kArena;
};
struct RemovePlacementRequest {
  CallId call;
  std::string request_id;
  uint64_t fingerprint = 0;
  std::string model, placement;
};
struct GetModelRequest {
  CallId call;
  std::string model;
};
// Common part of long operations.
struct OperationOptions {
  std::string request_id;
  uint64_t fingerprint = 0;
  CallerLossPolicy on_caller_loss = CallerLossPolicy::kCancel;
  absl::Duration deadline = absl::Minutes(10);
  absl::Duration wait_deadline = absl::Seconds(10);
  absl::Duration progress_timeout = absl::Seconds(5);
  bool digests = true;
  int64_t staging_bytes = 0;  // 0: the agent's own budget
  // How what crosses nodes is moved.
  Transport transport = Transport::kAuto;
};
struct LoadRequest {
  CallId call;
  OperationOptions options;
  std::string model, placement, directory;
};
struct SyncRequest {
  CallId call;
  OperationOptions options;
  std::string model, source;
  std::vector<std::string> destinations;
  Pattern pattern = Pattern::kDirect;
  bool plan_only = false;  // PlanSync
};
struct VerifyRequest {
  CallId call;
  OperationOptions options;
  std::string model, placement, against;
};
struct WantSpec {
  std::vector<std::string> agents, sample_ids, keys;
};
struct RedistributeRequest {
  CallId call;
  OperationOptions options;
  std::vector<WantSpec> wants;
  Pattern pattern = Pattern::kUnspecified;
  bool plan_only = false;  // PlanRedistribution
};
struct CancelRequest {
  CallId call;
  OperationId operation;
};
struct LocateRequest {
  CallId call;
  std::vector<std::string> sample_ids, keys;
};
struct ListSamplesRequest {
  CallId call;
  int32_t page_size = 0;
  std::string page_token;
};
struct ClearRequest {
  CallId call;
  std::string request_id;
  uint64_t fingerprint = 0;
  std::vector<std::string> sample_ids;
  bool keep_owners = false;
};
struct StatusRequest {
  CallId call;
  int32_t max_events = 0;
};
// Answers with all kept events after the revision, or waits for the next one.
struct WatchEventsRequest {
  CallId call;
  uint64_t after_revision = 0;
};

using Event =
    std::variant<StartEvent, TickEvent, PersistedEvent, PlanReadyEvent,
                 CallerGoneEvent, RegisterAgentEvent, HeartbeatEvent,
                 DrainEvent, StreamUpEvent, StreamDownEvent, AgentMessageEvent,
                 RegisterModelRequest, RegisterPlacementRequest,
                 RemovePlacementRequest, GetModelRequest, LoadRequest,
                 SyncRequest, VerifyRequest, RedistributeRequest, CancelRequest,
                 LocateRequest, ListSamplesRequest, ClearRequest, StatusRequest,
                 WatchEventsRequest>;

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_EVENTS_H_
