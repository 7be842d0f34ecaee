#ifndef SLUICE_AGENT_CORE_EVENTS_H_
#define SLUICE_AGENT_CORE_EVENTS_H_

// Everything that happens to an agent, as values. `CallId` names a local RPC
// that waits; `SessionId` an attached worker.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/plan.h"

namespace sluice::agent {

using CallId = StrongId<struct AgentCallIdTag>;
using SessionId = StrongId<struct SessionIdTag>;
using PinId = StrongId<struct PinIdTag>;
using ReservationId = StrongId<struct ReservationIdTag>;

// --- coordinator
// ---------------------------------------------------------------

// Register was answered.
struct RegisteredEvent {
  Rank rank = kNoRank;
  Epoch epoch;
  std::string cluster_id;
};
// The coordinator's command stream is open / broken. After Up the first command
// is a Welcome; the core answers it with inventory.
struct StreamUpEvent {};
struct StreamDownEvent {};
struct CommandEvent {
  Command command;
};
struct TickEvent {};

// --- host's answers
// ---------------------------------------------------------------

// AllocateBuffer was done (or not).
struct BufferAllocatedEvent {
  BufferId buffer;
  absl::Status status;
};
// PrepareExecution was done (or not).
struct ExecutionPreparedEvent {
  OperationId operation;
  absl::Status status;
};
struct ExecutionProgressEvent {
  OperationId operation;
  int64_t bytes_done = 0;
};
// The executor's on_done: after it nothing writes memory for this operation.
struct ExecutionDoneEvent {
  OperationId operation;
  absl::Status status;
  PartStats stats;
  Rank blamed = kNoRank;
};
// StartLoad ended; after it nothing writes the buffer for it.
struct LoadDoneEvent {
  OperationId operation;
  absl::Status status;
  PartStats stats;
};
struct DigestsReadEvent {
  OperationId operation;
  absl::Status status;
  std::vector<BoxDigest> digests;
};

// The host wants memory that it makes and keeps by itself.
struct TakeMemoryRequest {
  CallId call;
  int64_t bytes = 0;
  std::string label;  // for people
};
// It has given back so much of that.
struct MemoryReturnedEvent {
  int64_t bytes = 0;
};

// --- workers
// -----------------------------------------------------------------------

struct AttachRequest {
  CallId call;  // the Session stream
  std::string worker;
  int64_t pid = 0;
};
struct SessionGoneEvent {
  SessionId session;
};
// The caller of a waiting call went away.
struct CallerGoneEvent {
  CallId call;
};
struct GetPlacementRequest {
  CallId call;
  std::string model, placement;
};
// The host has taken the descriptor passed under the token as `buffer`.
struct LendMemoryRequest {
  CallId call;
  SessionId session;
  std::string model, placement;
  BufferId buffer;
  int64_t buffer_bytes = 0;  // from offset_bytes on
  int64_t offset_bytes = 0;
  Version version;
  int64_t step = 0;
  // Memory that does not outlive the worker's process (a GPU's).
  bool ends_with_worker = false;
};
// The worker knows that what it lent is about to be overwritten.
struct AcknowledgeOverwriteRequest {
  CallId call;
  SessionId session;
  std::string model, placement;
  uint64_t overwrite = 0;
};
struct BeginWriteRequest {
  CallId call;
  SessionId session;
  std::string model, placement;
  absl::Duration deadline;
};
struct EndWriteRequest {
  CallId call;
  SessionId session;
  std::string model, placement;
  int64_t step = 0;
};
struct PinRequest {
  CallId call;
  SessionId session;
  std::string model, placement;
  Version version;  // 0: current
  absl::Duration deadline;
};
struct UnpinRequest {
  CallId call;
  SessionId session;
  PinId pin;
};
struct ReserveSamplesRequest {
  CallId call;
  SessionId session;
  std::vector<SampleEntry> entries;
};
struct CommitSamplesRequest {
  CallId call;
  SessionId session;
  ReservationId reservation;
};
struct GetSamplesRequest {
  CallId call;
  SessionId session;
  std::vector<std::string> sample_ids, keys;
};

using Event = std::variant<
    RegisteredEvent, StreamUpEvent, StreamDownEvent, CommandEvent, TickEvent,
    BufferAllocatedEvent, TakeMemoryRequest, MemoryReturnedEvent,
    ExecutionPreparedEvent, ExecutionProgressEvent, ExecutionDoneEvent,
    LoadDoneEvent, DigestsReadEvent, AttachRequest, SessionGoneEvent,
    CallerGoneEvent, GetPlacementRequest, LendMemoryRequest,
    AcknowledgeOverwriteRequest, BeginWriteRequest, EndWriteRequest, PinRequest,
    UnpinRequest, ReserveSamplesRequest, CommitSamplesRequest,
    GetSamplesRequest>;

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_EVENTS_H_
