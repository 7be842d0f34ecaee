#ifndef SLUICE_AGENT_EXECUTOR_INTERFACE_H_
#define SLUICE_AGENT_EXECUTOR_INTERFACE_H_

// The seam between the agent's host (which binds plans to memory) and the
// transfer executor (which moves bytes). Everything here is bound: every piece
// is a place in mapped memory of this agent.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/mapped_memory.h"
#include "common/box.h"
#include "common/command.h"
#include "common/dtype.h"
#include "common/ids.h"
#include "common/plan.h"

namespace sluice::agent {

// Where the box of one tensor lies in one mapping: the element with offset
// (i0, i1, ...) inside the box lies at offset_bytes + sum i_d*strides_bytes[d].
struct BoundPlace {
  std::shared_ptr<MappedMemory> memory;
  int64_t offset_bytes = 0;
  std::vector<int64_t> strides_bytes;  // one per logical dimension
  // What the elements are there; kUnspecified: what they are in the stream.
  DType dtype = DType::kUnspecified;
};

// One tensor's share of a transfer. Samples are 1-d uint8 tensors of their own
// (shape {bytes}, box whole).
//
// The pieces of a transfer, each read row-major, one after the other, are its
// *stream*: num_elements * element size bytes each, `bytes` together. The
// stream follows from the plan alone and is the same on both sides; how it is
// cut into pieces is not: a side that holds a planned box in several views cuts
// it there. So between nodes positions are bytes of the stream, never piece
// numbers, and a puller matches its pieces to the source's with MatchPieces
// (agent/piece_match.h).
struct BoundPiece {
  std::string tensor;  // logical name, or "sample_id/key": for messages
  uint64_t mix = 1;    // odd factor of this tensor in the transfer's digest
  // Of the stream. A place that holds another type is cast from and to it here;
  // a destination has no less precision than it.
  DType dtype = DType::kUnspecified;
  Shape shape;  // of the whole logical tensor: digests are by logical offset
  Box box;
  std::optional<BoundPlace> source;      // if this agent is the source
  std::vector<BoundPlace> destinations;  // >= 1 if this agent is destination
};

// Returns what the elements of `piece` are at `place`.
inline DType HeldType(const BoundPiece& piece, const BoundPlace& place) {
  return place.dtype == DType::kUnspecified ? piece.dtype : place.dtype;
}

struct BoundTransfer {
  uint32_t id = 0;
  int32_t round = 0;
  LinkClass link = LinkClass::kSameDevice;
  Rank source = kNoRank;
  Rank destination = kNoRank;
  // Source side: this transfer reads memory that transfer `reads_after` (whose
  // destination is this agent's source) fills; its pieces' sources are there.
  std::optional<uint32_t> reads_after;
  int64_t bytes = 0;
  std::vector<BoundPiece> pieces;
};

struct ExecutionRequest {
  OperationId operation;
  Rank self = kNoRank;
  uint32_t num_plan_transfers = 0;       // board slots
  std::vector<BoundTransfer> transfers;  // plan order
  bool digests = true;
  // Names the immutable content read (placement, replica, version); source
  // digests are cached under it. Empty = never cache (relays never are).
  std::string content_key;
  int64_t staging_budget_bytes = int64_t{64} << 20;
  // A receive, send or wait that moves no byte for this long fails the
  // operation with DEADLINE_EXCEEDED naming the peer.
  absl::Duration progress_timeout = absl::Seconds(5);
  // What crosses nodes between its members goes over a lane (message_lane.h).
  MessageGroup group = {};
};

// What an executed part did.
struct ExecutionStats {
  LinkBytes bytes{};                              // received, by link class
  std::array<double, kNumLinkClasses> seconds{};  // busy, by link class
  int64_t digest_bytes = 0;
  int64_t digests_compared = 0;
  int64_t peak_staging_bytes = 0;
};

// What a same-node source tells a puller about one transfer: where its pieces
// lie, in order of the transfer's stream, and their boxes (as many).
struct PeerTransferSource {
  std::vector<BoundPlace> pieces;
  std::vector<Box> boxes;
};

// What a puller gets from a same-node source for one operation.
struct PeerSource {
  std::shared_ptr<MappedMemory> board;
  absl::flat_hash_map<uint32_t, PeerTransferSource> transfers;  // by id
};

// Opens same-node sources; implemented over the agents' Unix sockets. Blocking
// (bounded by the deadline, and until `interrupt`, a descriptor, is readable),
// called on executor threads.
class PeerDirectory {
 public:
  virtual ~PeerDirectory() = default;
  // Errors: UNAVAILABLE - the peer is gone, or the worker that lent it the
  // memory; FAILED_PRECONDITION - it does not know the operation;
  // DEADLINE_EXCEEDED; CANCELLED.
  virtual absl::StatusOr<PeerSource> Open(OperationId operation, Rank peer,
                                          absl::Time deadline,
                                          int interrupt) = 0;
};

struct ExecutorCallbacks {
  // Bytes received or copied so far; at most about ten a second.
  std::function<void(OperationId, int64_t bytes_done)> on_progress;
  // Exactly once per Start: when this agent's part is complete (all its
  // destinations hold their bytes, digests agree, all its sends are done, all
  // its source digests are published), failed, or aborted. After it, the
  // operation writes no memory; reads by peers go on until Release.
  // `peer` is the rank that failed it, if one did.
  std::function<void(OperationId, absl::Status, ExecutionStats, Rank peer)>
      on_done;
};

class UcxTransport;

// Runs parts. Thread-safe; callbacks come on executor threads, never under a
// lock, and must not block.
class TransferExecutor {
 public:
  virtual ~TransferExecutor() = default;

  // This agent's network address for peers on other nodes (opaque bytes).
  virtual std::string NetworkAddress() const = 0;
  // Tells the address of a peer; needed before a plan that crosses to it. A new
  // address (another incarnation) replaces the old endpoint.
  virtual absl::Status SetPeer(Rank peer, Incarnation incarnation,
                               const std::string& network_address) = 0;
  // Closes the endpoint to a lost peer at once.
  virtual void DropPeer(Rank peer) = 0;

  // Takes a bound part, makes its board and posts its receives. Moves nothing.
  // Errors: ALREADY_EXISTS, INVALID_ARGUMENT (a place outside its memory),
  // RESOURCE_EXHAUSTED (staging).
  virtual absl::Status Prepare(ExecutionRequest request) = 0;
  // Starts moving. Errors: NOT_FOUND - not prepared.
  virtual absl::Status Start(OperationId operation) = 0;
  // Ends a prepared or running operation: on_done comes (once) with `reason`
  // when nothing touches memory any more. Unknown operations: no effect.
  virtual void Abort(OperationId operation, absl::Status reason) = 0;
  // Forgets an ended operation, its board and mappings.
  virtual void Release(OperationId operation) = 0;

  // For PeerDirectory's server side: the board to hand to a same-node peer and
  // this agent's source places for transfers whose destination is `puller`.
  // The board's file descriptor is borrowed. Errors: FAILED_PRECONDITION.
  struct BoardHandle {
    int fd = -1;
    int64_t size = 0;
  };
  virtual absl::StatusOr<BoardHandle> Board(OperationId operation) = 0;

  // Drops cached digests of a content key (the content changed).
  virtual void ForgetContent(const std::string& content_key) = 0;

  // What reaches peers of other nodes (their ranks are its keys), for
  // collectives beside the plans; null if there is none. Lives as long as this.
  virtual UcxTransport* transport() { return nullptr; }
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_EXECUTOR_INTERFACE_H_
