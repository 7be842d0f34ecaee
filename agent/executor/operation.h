#ifndef SLUICE_AGENT_EXECUTOR_OPERATION_H_
#define SLUICE_AGENT_EXECUTOR_OPERATION_H_

// One operation of the executor: a bound part on its way.
//
//   local copies, pulls      operation_local.cc    worker threads copy ranges
//   sends, receives          operation_network.cc  windows of messages per
//                            peer, by the transport or, between GPUs, a lane
//   source digests, compares operation_digests.cc
//   life, failures, stalls   operation.cc
//
// Everything is driven by what ends: a job of a worker thread, a message of the
// transport, a change on a peer's board. Each of these is counted in active_;
// the operation has ended when nothing is active and either nothing is pending
// or it failed. So its end means that nothing touches its memory any more.
//
// Relays. A transfer that reads what another one delivers here (reads_after)
// has a mark, `available`: the bytes of its stream that are there. It moves
// tensor by tensor as they land, and releases copies, sends, or the slot that a
// puller waits for.
//
// Thread rule: thread-safe. One mutex guards all state; bytes are moved without
// it. The transport and the pools are called under it: they call back later, on
// threads of their own.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "agent/device/interrupt.h"
#include "agent/executor/board.h"
#include "agent/executor/digest_table.h"
#include "agent/executor/piece_mover.h"
#include "agent/executor/staging_buffers.h"
#include "agent/executor/thread_pool.h"
#include "agent/executor/transfer_stream.h"
#include "agent/executor_interface.h"
#include "agent/message_lane.h"
#include "agent/transport/ucx_transport.h"
#include "common/clock.h"
#include "common/digest_value.h"
#include "common/ids.h"
#include "common/mutex.h"

namespace sluice::agent {

class TransferOperation
    : public std::enable_shared_from_this<TransferOperation> {
 public:
  // All outlive every operation.
  struct Deps {
    UcxTransport& transport;
    PeerDirectory& peers;
    const Clock& clock;
    // Copies, packs, digests. Jobs never wait for a peer.
    ThreadPool& workers;
    // Waits for peers, and callbacks.
    ThreadPool& waiters;
    StagingBuffers& buffers;
    PieceMover& mover;
    // What goes from GPU to GPU; null where nothing can. Its buffers are
    // memory of its mover.
    MessageLanes* lanes;
    StagingBuffers* lane_buffers;
    DigestTable& digests;
    const ExecutorCallbacks& callbacks;
    // Called once, after on_done has returned.
    std::function<void(OperationId)> ended;
  };

  // Errors: as TransferExecutor::Prepare, less ALREADY_EXISTS.
  static absl::StatusOr<std::shared_ptr<TransferOperation>> Create(
      ExecutionRequest request, const Deps& deps);

  void Start();
  // Fails it, unless it has ended or failed before.
  void Abort(absl::Status reason);
  // Fails it with DEADLINE_EXCEEDED if it waits for peers and nothing has moved
  // for its progress timeout.
  void CheckStalled(absl::Time now);

  OperationId id() const { return request_.operation; }
  const Board& board() const { return *board_; }
  absl::Duration progress_timeout() const { return request_.progress_timeout; }

 private:
  struct Remote;
  struct LocalPeer;

  struct Transfer {
    TransferStream stream;
    size_t order = 0;  // in the plan
    bool incoming_done = true;
    bool outgoing_done = true;
    Remote* remote = nullptr;    // of a transfer between nodes
    LocalPeer* local = nullptr;  // of a pull

    // Incoming. Digests are scaled by their tensors' factors in `total`.
    int64_t landed = 0;
    Digest total;
    std::optional<Digest> expected;
    Digest expected_message;  // where the source's digest is received
    std::vector<Transfer*> dependents;
    // Per segment, if there are dependents.
    std::vector<int64_t> segment_left;
    std::vector<Digest> segment_digests;

    // Reading: what may be read, and how much of it was handed to jobs.
    int64_t available = 0;
    int64_t scheduled = 0;
    Transfer* reads = nullptr;
    std::vector<size_t> read_segments;  // of `reads`, per own segment
    size_t next_segment = 0;            // first one not available

    // Source digests; per segment: bytes not yet digested by this transfer, and
    // the sum of the others.
    std::vector<int64_t> undigested;
    std::vector<Digest> digested;
    std::vector<bool> fused;      // digested by the jobs of its messages
    int64_t missing_digests = 0;  // segments
    Digest source_total;

    // Between nodes. `over` counts messages, and the digest's.
    std::vector<StreamMessage> messages;
    int64_t first_message = 0;  // of all to or from the peer
    size_t next_message = 0;
    size_t over = 0;

    uint32_t id() const { return stream.transfer().id; }
    LinkClass link() const { return stream.transfer().link; }
  };

  // A peer on another node; its transfers in plan order.
  struct Remote {
    struct Direction {
      std::vector<Transfer*> transfers;
      int64_t messages = 0;
      size_t at = 0;  // first one with messages left
      int out = 0;    // messages with the transport
      int staged = 0;

      // Returns the transfer whose message is next; null at the end.
      Transfer* Next();
    };
    Rank rank = kNoRank;
    bool by_lane = false;
    Direction sends, receives;
    absl::Time last_progress;
  };

  // A peer on this node that this agent pulls from.
  struct LocalPeer {
    Rank rank = kNoRank;
    std::vector<Transfer*> transfers;
    std::shared_ptr<Board> board;  // null until opened
    bool waiting = false;          // its thread waits on the board
    absl::Time last_progress;
  };

  // Bytes [lo, hi) of a transfer's stream, copied or being copied.
  struct CopiedChunk {
    int64_t lo = 0;
    int64_t hi = 0;
    std::vector<SegmentDigest> digests = {};
    absl::Status moved = {};
    std::unique_ptr<PieceMover::Copying> copying = nullptr;  // null: over
  };

  // A source digest that several transfers of this operation need.
  struct SharedDigest {
    std::optional<Digest> digest;
    std::vector<std::pair<Transfer*, size_t>> takers;
  };

  TransferOperation(ExecutionRequest request, const Deps& deps);

  // Life (operation.cc).
  absl::Status Bind();
  absl::Status BindTransfer(BoundTransfer bound);
  absl::Status BindRemote(Transfer& transfer);
  // Whether messages with the peer go over the lane.
  bool ByLane(Rank peer) const { return lane_ != nullptr && lane_->Has(peer); }
  // Who failed a message: a lane's error names them itself.
  static Rank BlamedBy(const Remote& remote) {
    return remote.by_lane ? kNoRank : remote.rank;
  }
  // Tells the lane what will come.
  void BeginLane();
  StagingBuffers& BuffersOf(const Remote& remote) const {
    return remote.by_lane ? *deps_.lane_buffers : deps_.buffers;
  }
  absl::Status LinkRelay(Transfer& transfer);
  absl::Status SizeStaging();
  // Largest staging buffers for sent and for received messages.
  std::pair<int64_t, int64_t> LargestStaged() const;
  // Where a message lies in one run on this side and is not staged; or null.
  const std::byte* RunOf(const Transfer& transfer,
                         const StreamMessage& m) const;
  std::byte* LandingRun(const Transfer& transfer, const StreamMessage& m) const;
  void FailLocked(absl::Status status, Rank culprit)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // As FailLocked, where a movement of this agent's own failed.
  bool FailIfLocked(const Transfer& transfer, const absl::Status& moved)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MaybeEndLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Runs `work` on a worker thread, also after a failure: it looks at failed_.
  // What a message of the network needs (urgent) is done by the transport's
  // thread where that brought the message: it has just copied it, and finds its
  // bytes in its core's cache.
  void EnqueueLocked(Job work, bool urgent)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ActivityOverLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Brackets of work of this agent's own: a job, or what a mover has begun.
  void WorkBegunLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WorkOverLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ProgressLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Bytes [lo, hi) of an incoming transfer are in all their places.
  void LandedLocked(Transfer& transfer, int64_t lo, int64_t hi)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UpdateAvailableLocked(Transfer& transfer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReportProgressLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountOutgoingDoneLocked(Transfer& transfer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // "transfer 3 (tensor "w") from rank 1 to rank 2".
  static std::string Describe(const Transfer& transfer);
  // What the operation waits for, and the peer, for an error.
  std::pair<std::string, Rank> WaitedForLocked() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Digests (operation_digests.cc).
  void StartSourceDigestsLocked(Transfer& transfer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DigestSegmentLocked(Transfer& transfer, size_t segment)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DigestRelayedSegmentLocked(Transfer& transfer, size_t segment)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddSourceDigestsLocked(Transfer& transfer, int64_t lo, int64_t hi,
                              const std::vector<SegmentDigest>& parts)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetSourceDigestLocked(Transfer& transfer, size_t segment,
                             const Digest& digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddLandedDigestsLocked(Transfer& transfer,
                              const std::vector<SegmentDigest>& parts)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends an incoming transfer that has landed, once its digest is compared.
  void TryCompleteLocked(Transfer& transfer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Compares(const Transfer& transfer) const;

  // This node (operation_local.cc).
  void ScheduleCopiesLocked(Transfer& transfer, int64_t until)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CopyRange(Transfer& transfer, int64_t lo, int64_t hi);
  // Waits for a chunk and counts it. `since` is when the one before was over.
  void EndChunk(Transfer& transfer, CopiedChunk chunk, absl::Time& since);
  void PullFrom(LocalPeer& peer);
  absl::Status OpenPeer(LocalPeer& peer);
  // Returns whether there is anything left to wait for.
  bool LookAtBoardLocked(LocalPeer& peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Between nodes (operation_network.cc).
  struct OutMessage;
  static uint64_t TagOf(OperationId operation, uint32_t transfer,
                        size_t message);
  void PumpSendsLocked(Remote& remote) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PumpAllSendsLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PumpReceivesLocked(Remote& remote) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PumpAllReceivesLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes a buffer for a message; nullopt if it must wait.
  std::optional<StagingBuffer> TakeStagingLocked(Remote& remote,
                                                 Remote::Direction Remote::*way,
                                                 int64_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReleaseStagingLocked(Remote& remote, Remote::Direction Remote::*way,
                            StagingBuffer buffer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Packs, or digests what is sent from `run`, or both. Does not wait for a
  // device: what is packed is sent when that is over.
  void PackAndSend(Transfer& transfer, size_t message, const std::byte* run,
                   StagingBuffer buffer, bool digest);
  void OnPacked(Transfer& transfer, size_t message, const std::byte* data,
                StagingBuffer buffer, const absl::Status& moved,
                const std::vector<SegmentDigest>& parts);
  void SendLocked(Transfer& transfer, size_t message, const std::byte* data,
                  StagingBuffer buffer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnSent(Transfer& transfer, StagingBuffer buffer, absl::Status status);
  void OnSentLocked(Transfer& transfer, StagingBuffer buffer,
                    absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendDigestLocked(Transfer& transfer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountSentLocked(Transfer& transfer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReceiveDigestLocked(Transfer& transfer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnReceived(Transfer& transfer, size_t message, StagingBuffer buffer,
                  absl::Status status);
  void OnReceivedLocked(Transfer& transfer, size_t message,
                        StagingBuffer buffer, absl::Status status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Nor does this wait for a device.
  void UnpackReceived(Transfer& transfer, size_t message, StagingBuffer buffer);
  void OnUnpacked(Transfer& transfer, size_t message, StagingBuffer buffer,
                  const absl::Status& moved,
                  const std::vector<SegmentDigest>& parts);
  void NetworkBusyLocked(int change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // What the caller gave; its transfers have moved into transfers_.
  ExecutionRequest request_;
  const Deps& deps_;
  std::unique_ptr<Board> board_;
  // Set with failure_, read by jobs between chunks.
  std::atomic<bool> failed_ = false;

  // Set before Bind's end; null where all goes by the transport.
  std::unique_ptr<MessageLane> lane_;

  Mutex mutex_;
  // Their addresses and streams' segments are fixed after Create; the rest of
  // them is guarded by mutex_.
  std::vector<std::unique_ptr<Transfer>> transfers_;
  absl::flat_hash_map<uint32_t, Transfer*> by_id_;
  absl::flat_hash_map<Rank, std::unique_ptr<Remote>> remotes_;
  absl::flat_hash_map<Rank, std::unique_ptr<LocalPeer>> local_peers_;
  // Ends waits for peers that are being opened.
  std::optional<Interrupt> interrupt_;
  absl::flat_hash_map<DigestKey, SharedDigest> shared_digests_
      ABSL_GUARDED_BY(mutex_);
  // Whether what lands is staged even where it lies in one run, so that its
  // digest is made while it is copied out of the cache: cheaper than reading it
  // again from memory. Fixed after Create; not where the budget is too small.
  bool stage_landings_ = false;
  // Urgent jobs of the call of the transport at hand; null outside of one.
  std::vector<Job>* here_ ABSL_GUARDED_BY(mutex_) = nullptr;
  StagingShare send_staging_ ABSL_GUARDED_BY(mutex_){0, 0};
  StagingShare receive_staging_ ABSL_GUARDED_BY(mutex_){0, 0};

  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  Rank culprit_ ABSL_GUARDED_BY(mutex_) = kNoRank;
  // Obligations of this part that are not met.
  int64_t pending_ ABSL_GUARDED_BY(mutex_) = 0;
  // What may still touch memory or call back; of it, work of this agent's own.
  int64_t active_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t jobs_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time last_progress_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_report_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_done_ ABSL_GUARDED_BY(mutex_) = 0;
  ExecutionStats stats_ ABSL_GUARDED_BY(mutex_);
  int64_t network_messages_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time network_busy_since_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_EXECUTOR_OPERATION_H_
