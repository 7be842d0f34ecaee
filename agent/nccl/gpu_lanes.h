#ifndef SLUICE_AGENT_NCCL_GPU_LANES_H_
#define SLUICE_AGENT_NCCL_GPU_LANES_H_

// Messages of operations by NCCL: the lanes of one agent, which take turns, and
// the communicators that are kept for the next ones.

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/collective/collective.h"
#include "agent/executor/piece_mover.h"
#include "agent/message_lane.h"
#include "agent/nccl/communicators.h"
#include "agent/nccl/gpu_lane.h"
#include "agent/nccl/segment_turns.h"
#include "common/clock.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/mutex.h"

namespace sluice::agent {

// Outlives the lanes that it opened.
class GpuLanes final : public MessageLanes {
 public:
  // `mover` packs to memory of the GPU; both outlive it.
  GpuLanes(PieceMover& mover, const Clock& clock)
      : mover_(mover), clock_(clock) {}
  // After Shutdown, where Serve was called.
  ~GpuLanes() override;

  // Opens lanes over these, until Shutdown.
  void Serve(Communicators& communicators);
  // Why there are none.
  void Refuse(const absl::Status& reason);
  // Ends all and waits until the communicators are not used any more.
  void Shutdown();

  // Who lives: the members that groups may have.
  void SetPeers(const std::vector<Peer>& peers);

  absl::StatusOr<std::unique_ptr<MessageLane>> Open(
      OperationId operation, const MessageGroup& group, Rank self,
      absl::Duration patience) override;
  PieceMover& mover() override { return mover_; }
  void Raise(Epoch epoch) override;

 private:
  using Lanes = absl::flat_hash_map<OperationId, std::shared_ptr<GpuLane>>;

  absl::StatusOr<CollectiveMembers> MembersOf(const MessageGroup& group,
                                              Rank self) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Forgets lanes that have ended; they go with what is returned.
  std::vector<std::shared_ptr<GpuLane>> ReapLocked()
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Notes that a group is used, and drops one not used for long.
  void UseLocked(uint64_t group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CancelAll(const absl::Status& reason);

  PieceMover& mover_;
  const Clock& clock_;
  SegmentTurns turns_;

  Mutex mutex_;
  Communicators* communicators_ ABSL_GUARDED_BY(mutex_) = nullptr;
  absl::Status refusal_ ABSL_GUARDED_BY(mutex_);
  Epoch epoch_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<Rank, Peer> peers_ ABSL_GUARDED_BY(mutex_);
  Lanes lanes_ ABSL_GUARDED_BY(mutex_);
  std::deque<uint64_t> used_ ABSL_GUARDED_BY(mutex_);  // groups, last one first
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_GPU_LANES_H_
