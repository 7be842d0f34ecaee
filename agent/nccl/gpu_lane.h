#ifndef SLUICE_AGENT_NCCL_GPU_LANE_H_
#define SLUICE_AGENT_NCCL_GPU_LANE_H_

// One operation's messages over a communicator: the thread that carries them.
//
//   connect -> wait for the operation to start, here and at all members
//           -> segments -> end
//
// A segment is an exchange of cards (lane_step.h), its turn among those of the
// agent's other operations (segment_order.h), and one group call of NCCL with
// the sends and receives that the cards allow.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/message_lane.h"
#include "agent/nccl/communicator.h"
#include "agent/nccl/communicators.h"
#include "agent/nccl/lane_step.h"
#include "agent/nccl/segment_turns.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/mutex.h"

namespace sluice::agent {

// Thread-safe. Its methods are MessageLane's.
class GpuLane {
 public:
  using Done = MessageLane::Done;
  using Counts = MessageLane::Counts;
  // All outlive the lane's work (see over); the clock the lane.
  struct Deps {
    OperationId operation;
    Communicators& communicators;
    std::shared_ptr<Communicator> communicator;
    SegmentTurns& turns;
    const Clock& clock;
    // How long nothing may move while no other operation is in the way.
    absl::Duration patience;
    // What one segment moves to or from an agent, about: how long operations
    // beside it wait for it.
    int64_t segment_bytes = 64 << 20;
  };

  explicit GpuLane(const Deps& deps);
  // After Leave. Waits for the thread.
  ~GpuLane();
  GpuLane(const GpuLane&) = delete;
  GpuLane& operator=(const GpuLane&) = delete;

  bool Has(Rank peer) const { return members_.contains(peer); }
  void Begin(const absl::flat_hash_map<Rank, Counts>& counts);
  void Send(Rank peer, int64_t index, std::byte* data, int64_t bytes,
            Done done);
  void Receive(Rank peer, int64_t index, std::byte* data, int64_t bytes,
               Done done);
  void Cancel(const absl::Status& reason, Done ended);
  bool Waiting() const;

  // The operation lets go of it: ended, unless all its messages have moved.
  void Leave();
  // Neither the communicator nor the turns are used any more.
  bool over() const;
  void AwaitOver();
  // Over, and nobody will call any more.
  bool left() const;

  uint64_t group_id() const { return deps_.communicator->members().Id(); }

 private:
  struct Message {
    std::byte* data = nullptr;
    int64_t bytes = 0;
    Done done;
  };
  // Messages one way between this agent and one member.
  struct Way {
    std::map<int64_t, Message> posted;  // and not moved
    int64_t moved = 0;                  // all before this one
    int64_t total = 0;

    // All before this one are posted or moved: as many as `bytes` allow, and
    // at least one if there is one.
    int64_t Ready(int64_t bytes) const;
  };
  struct Member {
    Way sends, receives;
  };
  // Messages that one step moves, by member.
  struct Batch {
    struct Entry {
      int member = 0;
      bool send = false;
      Message message;
    };
    std::vector<Entry> entries;
  };

  void Post(Way Member::*way, Rank peer, int64_t index, Message message);
  void Work();
  // Everything until all has moved.
  absl::Status Carry();
  absl::Status AwaitBegin();
  absl::Status Segments();
  // The next segment: what all members' cards allow.
  absl::StatusOr<LaneStep> Agree();
  // Waits until it may run here, and where others may be in the way, until it
  // may on all members. Who then calls into NCCL meets nobody who waits.
  absl::Status AwaitTurn(const LaneStep& step);
  absl::Status Move(const LaneStep& step);
  // Why it cannot go on; OK while it can.
  absl::Status Broken() const;
  // Its marks, and whether any is above what has moved.
  LaneCard MakeCard(bool& may_move) const;
  bool MovesHere(const LaneStep& step) const;
  void SetWaiting(bool waiting);
  Batch TakeBatch(const LaneStep& step);
  void Finish(Batch batch);
  // "messages to agent-1 (rank 1); from agent-2 (rank 2)".
  std::string Describe(const Batch& batch) const;
  // Answers what is posted to a lane that has failed, until Leave.
  void Serve();
  bool AllMovedLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Deps deps_;
  const int num_members_;
  const int self_;
  absl::flat_hash_map<Rank, int> members_;  // but this agent

  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<Member> ways_ ABSL_GUARDED_BY(mutex_);  // by member
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;
  // For other operations, or for members that do.
  bool waiting_ ABSL_GUARDED_BY(mutex_) = true;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  bool leaving_ ABSL_GUARDED_BY(mutex_) = false;
  bool left_ ABSL_GUARDED_BY(mutex_) = false;
  // Of Cancel, then of the lane; OK while neither.
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::vector<Done> ended_ ABSL_GUARDED_BY(mutex_);
  // Of the thread: messages between all members that have moved.
  int64_t moved_ = 0;
  // Last: uses the members above.
  std::thread thread_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_GPU_LANE_H_
