#ifndef SLUICE_AGENT_CORE_EFFECTS_H_
#define SLUICE_AGENT_CORE_EFFECTS_H_

// Everything the agent's core orders, as values named as orders; the host runs
// them in the order given.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/core/events.h"
#include "common/command.h"
#include "common/model.h"

namespace sluice::agent {

// --- memory
// ---------------------------------------------------------------------

// Makes a memfd arena of this size (placement copies, sample segments); the
// host answers BufferAllocated. Pages are touched by nobody until used. The
// core numbers its buffers from 1; those that the host makes (lent memory) have
// kHostBufferBit set, so that the two never meet.
inline constexpr uint64_t kHostBufferBit = uint64_t{1} << 63;
enum class BufferUse {
  // A placement's copies, on the agent's device: the second may lie elsewhere.
  // All of a copy will be used.
  kFirstCopy,
  kSecondCopy,
  // Either copy of a placement that is in memory of the host.
  kHostCopy,
  // A segment for samples, in memory of the host.
  kSamples,
};
struct AllocateBuffer {
  BufferId buffer;
  int64_t bytes = 0;
  std::string label;  // for status and logs
  BufferUse use = BufferUse::kFirstCopy;
};
// Unmaps and closes; mappings that executions still hold live until their end.
// Lent buffers too: when lent anew, refused or forgotten.
struct FreeBuffer {
  BufferId buffer;
};

// --- operations
// -------------------------------------------------------------------

// A placement's content in one buffer.
struct BoundPlacement {
  PlacementRef ref;
  std::shared_ptr<const ModelSpec> spec;
  std::shared_ptr<const RankLayout> layout;
  BufferId buffer;
  int64_t offset_bytes = 0;  // of the placement's buffer in `buffer`
};
struct SamplePlace {
  SampleEntry entry;
  BufferId buffer;
  int64_t offset_bytes = 0;
};
// Binds a part to memory and gives it to the executor; the host answers
// ExecutionPrepared.
struct PrepareExecution {
  OperationId operation;
  std::shared_ptr<const PlanPart> part;
  std::optional<BoundPlacement> source;  // parameters, if this agent reads
  std::vector<std::optional<BoundPlacement>>
      destinations;  // by placement index
  // One per entry of the part, for samples: where it is or will be here.
  std::vector<SamplePlace> samples;
  // Same order: where an entry lands that this agent receives though it holds
  // it already (`samples` then says where it is, for reading); else nullopt and
  // it lands in `samples`.
  std::vector<std::optional<SamplePlace>> landings;
  bool digests = true;
  std::string content_key;  // see ExecutionRequest
  int64_t staging_bytes = 0;
  absl::Duration progress_timeout;
  MessageGroup group = {};
};
struct StartExecution {
  OperationId operation;
};
// Ends it; ExecutionDone follows (once) when nothing touches memory any more.
// What still waits for memory to be handed over is told to have been prepared
// first, and digests to have been read, with the reason.
struct AbortExecution {
  OperationId operation;
  absl::Status reason;
};
// Forgets an ended execution and its board.
struct ReleaseExecution {
  OperationId operation;
};
// Reads this agent's views from files into the buffer; LoadDone follows.
struct StartLoad {
  OperationId operation;
  BoundPlacement placement;
  std::string directory;
};
// LoadDone (with the reason) follows when nothing touches memory any more.
struct AbortLoad {
  OperationId operation;
  absl::Status reason;
};
struct ReadDigests {
  OperationId operation;
  BoundPlacement placement;
  // One per tensor: the type to digest it in; empty: as it is held.
  std::vector<DType> dtypes = {};
};
// The content of a key changed: cached digests of it are void.
struct ForgetContent {
  std::string content_key;
};

// --- coordinator and peers
// -----------------------------------------------------------

struct SendEvent {
  AgentEvent event;
};
struct SetPeers {
  std::vector<Peer> peers;
};
// The stream belongs to an old epoch or means another life: end it.
struct CloseStream {
  absl::Status reason;
};

// --- workers
// ------------------------------------------------------------------------

struct AttachReply {
  SessionId session;
};
struct GetPlacementReply {
  PlacementRef ref;
  std::shared_ptr<const RankLayout> layout;
  int64_t mesh_index = 0;
  int64_t replica = 0;
  Storage storage = Storage::kUnspecified;
  Version version;
  std::vector<CopyInventory> copies;
};
struct LendMemoryReply {};
struct AcknowledgeOverwriteReply {};
struct BeginWriteReply {};
struct EndWriteReply {
  Version version;
};
struct PinReply {
  PinId pin;
  Version version;
  BufferId buffer;
  int64_t offset_bytes = 0;
  int64_t bytes = 0;
};
struct UnpinReply {};
struct ReserveSamplesReply {
  ReservationId reservation;
  std::vector<SamplePlace> places;
};
struct CommitSamplesReply {};
struct GetSamplesReply {
  std::vector<SamplePlace> places;
};
struct TakeMemoryReply {};
using ReplyBody =
    std::variant<AttachReply, GetPlacementReply, LendMemoryReply,
                 AcknowledgeOverwriteReply, BeginWriteReply, EndWriteReply,
                 PinReply, UnpinReply, ReserveSamplesReply, CommitSamplesReply,
                 GetSamplesReply, TakeMemoryReply>;

// Ends a worker's call (for AttachReply: the session goes on).
struct Reply {
  CallId call;
  absl::Status status;
  ReplyBody body;
};
// News for every attached worker.
struct TellVersion {
  std::string model, placement;
  Version version;
  // Who lent the memory this is about, if anybody.
  SessionId lender;
  // Not 0: a load waits for the lender's AcknowledgeOverwriteRequest.
  uint64_t overwrite = 0;
};

using Effect =
    std::variant<AllocateBuffer, FreeBuffer, PrepareExecution, StartExecution,
                 AbortExecution, ReleaseExecution, StartLoad, AbortLoad,
                 ReadDigests, ForgetContent, SendEvent, SetPeers, CloseStream,
                 Reply, TellVersion>;

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_EFFECTS_H_
