#ifndef SLUICE_COORDINATOR_CORE_RECORDS_H_
#define SLUICE_COORDINATOR_CORE_RECORDS_H_

// What the coordinator's core makes durable, as values. coordinator/store/
// record_codec turns them into StoreWrites and back.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/command.h"
#include "coordinator/core/operation_types.h"

namespace sluice::coordinator {

// One per state directory: identity and the epoch last used.
struct ClusterRecord {
  std::string cluster_id;
  Epoch epoch;
  OperationId last_operation;  // ids below are used up (reserved in blocks)
};
// name -> rank, and what the last registration said (so that recovery knows
// whom to await). Key: name.
struct AgentRecord {
  std::string name;
  Rank rank = kNoRank;
  std::string node;
  // Whether it was lost or had drained when written: then it is not awaited.
  bool gone = false;
};
// Key: model name.
struct ModelRecord {
  ModelSpec spec;
  Version last_version;
};
// Key: model/placement.
struct PlacementRecord {
  PlacementRef ref;
  Mesh mesh;
  std::vector<std::string> agents;
  Layout layout;
  Storage storage = Storage::kArena;
  bool removed = false;  // erases the record
};
// A version and where it came from. Key: model/version.
struct VersionRecord {
  std::string model;
  Version version;
  std::string placement;  // where it was made
  int64_t step = 0;       // worker's step, 0 for a load
};
// The decision of an operation: written means commit. Key: operation.
// Erased (removed = true) when every agent has confirmed the commit.
struct DecisionRecord {
  OperationId operation;
  Version version;
  std::vector<PlacementRef> placements;
  std::vector<std::string> agents;
  bool removed = false;
};
// Outcome of a mutating request, kept for an hour. Key: request id.
struct OutcomeRecord {
  std::string request_id;
  absl::Status status;
  uint64_t fingerprint = 0;  // of the request: another one must not reuse it
  OperationId operation;     // 0 if none
  OperationResult result;    // of an operation (certificate left out)
  int64_t dropped = 0;       // ClearReply::dropped
  absl::Time expires;        // wall time
  bool removed = false;
};

using Record =
    std::variant<ClusterRecord, AgentRecord, ModelRecord, PlacementRecord,
                 VersionRecord, DecisionRecord, OutcomeRecord>;

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_RECORDS_H_
