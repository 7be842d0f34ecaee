#ifndef SLUICE_COORDINATOR_CORE_OPERATION_TYPES_H_
#define SLUICE_COORDINATOR_CORE_OPERATION_TYPES_H_

// Values that describe operations and the cluster to callers. Same names and
// meaning as proto/sluice/v1/{operation,status_service,model_service}.proto.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/nccl_report.h"
#include "common/plan.h"
#include "common/reduce_report.h"

namespace sluice::coordinator {

enum class OperationKind {
  kUnspecified = 0,
  kLoad,
  kSync,
  kRedistribute,
  kVerify
};

enum class OperationPhase {
  kUnspecified = 0,
  kQueued = 1,
  kPlanning = 2,
  kPreparing = 3,
  kExecuting = 4,
  kCommitting = 5,
  kAborting = 6,
  kDone = 7,
  kFailed = 8,
};

// kAuto: NCCL between GPUs where both have it, UCX else.
enum class Transport { kUnspecified = 0, kAuto = 1, kUcx = 2, kNccl = 3 };

enum class CallerLossPolicy { kUnspecified = 0, kCancel = 1, kDetach = 2 };

struct OperationResult {
  Version version;
  LinkBytes bytes{};
  double seconds = 0;
  std::vector<std::pair<OperationPhase, double>> phases;
  std::array<double, kNumLinkClasses> busy_seconds{};
  int64_t digest_bytes = 0;
  int64_t digests_compared = 0;
  Certificate certificate;
  std::vector<std::string> agent_of_rank;  // names for the certificate's ranks
  bool plan_reused = false;
  int64_t peak_staging_bytes = 0;
};

struct OperationUpdate {
  OperationId operation;
  OperationKind kind = OperationKind::kUnspecified;
  OperationPhase phase = OperationPhase::kUnspecified;
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
  std::vector<std::string> waiting_for;
  std::optional<OperationResult> result;  // the last update of a success
};

struct OperationInfo {
  OperationUpdate update;
  std::string description;
  absl::Time started;
  absl::Duration age;
  std::string error;
};

enum class AgentState {
  kUnspecified = 0,
  kJoining,
  kAlive,
  kSuspect,
  kLost,
  kDraining
};

struct AgentStatus {
  std::string name;
  Rank rank = kNoRank;
  std::string node;
  std::string device;
  std::string device_description;
  AgentState state = AgentState::kUnspecified;
  Incarnation incarnation;
  std::string address;
  std::string socket_path;
  absl::Time last_beat;
  int64_t parameter_bytes = 0;
  int64_t sample_bytes = 0;
  int64_t memory_bytes = 0;
  std::vector<std::string> workers;
  int64_t pid = 0;
  int32_t nccl_version = 0;  // as NCCL counts; 0: none
  NcclReport nccl;
};

struct ReplicaStatus {
  int64_t replica = 0;
  Version version;
  std::vector<std::string> exceptions;
};

struct PlacementStatus {
  std::string placement;
  Mesh mesh;
  std::vector<std::string> agents;  // by mesh index
  std::string layout;
  Storage storage = Storage::kUnspecified;
  std::vector<ReplicaStatus> replicas;
  int64_t bytes = 0;
};

struct ModelStatus {
  std::string model;
  Version version;
  int64_t tensors = 0;
  int64_t bytes = 0;
  std::vector<PlacementStatus> placements;
};

struct ReduceGroupMember {
  std::string agent;
  ReduceGroupState state = ReduceGroupState::kUnspecified;
  int64_t requests_waiting = 0;
  int64_t collectives_sent = 0;
  int64_t collectives_done = 0;
  int64_t bytes_reduced = 0;
  int64_t bucket_bytes = 0;
  std::string error;
};

struct ReduceGroupStatus {
  std::string name;
  bool average = false;
  std::vector<ReduceGroupMember> members;
  std::vector<std::string> waits_for;
};

struct StatusEvent {
  uint64_t revision = 0;
  absl::Time time;
  std::string kind;
  std::string subject;
  std::string message;
};

struct StatusSnapshot {
  std::string cluster_id;
  Epoch epoch;
  bool recovering = false;
  std::vector<std::string> awaited;
  absl::Time started;
  std::vector<AgentStatus> agents;
  std::vector<ModelStatus> models;
  std::vector<OperationInfo> operations;
  LinkBytes total_bytes{};
  std::array<double, kNumLinkClasses> total_seconds{};
  int64_t samples = 0;
  int64_t sample_tensors = 0;
  std::vector<StatusEvent> events;
  std::vector<ReduceGroupStatus> reduce_groups;
};

struct SampleLocation {
  SampleEntry entry;
  std::vector<std::string> holders;
  std::string owner;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_OPERATION_TYPES_H_
