#ifndef SLUICE_AGENT_MESSAGE_LANE_H_
#define SLUICE_AGENT_MESSAGE_LANE_H_

// The seam to what carries messages of operations from GPU to GPU, beside the
// network of hosts. Implementation: agent/nccl/gpu_lanes.h.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/executor/piece_mover.h"
#include "common/command.h"
#include "common/ids.h"

namespace sluice::agent {

// One operation's messages among the members of its group. The n-th message
// that one member sends to another is the n-th that the other receives from it.
//
// Thread-safe. Callbacks run on a thread of the lane, each once; memory of a
// message is the lane's until its `done`, which may be long after a failure:
// when no device touches it any more. A failure is one of the whole lane, on
// all members.
class MessageLane {
 public:
  using Done = absl::AnyInvocable<void(absl::Status) &&>;
  struct Counts {
    int64_t sends = 0;
    int64_t receives = 0;
  };

  // Ends this agent's part, unless all its messages have moved.
  virtual ~MessageLane() = default;

  // Whether messages with this agent are the lane's.
  virtual bool Has(Rank peer) const = 0;

  // How many messages there will be with each member. Before the first one.
  virtual void Begin(const absl::flat_hash_map<Rank, Counts>& counts) = 0;

  // Message `index` of those to or from `peer`, counted from 0; in any order.
  // `data` is memory of MessageLanes::mover().
  virtual void Send(Rank peer, int64_t index, std::byte* data, int64_t bytes,
                    Done done) = 0;
  virtual void Receive(Rank peer, int64_t index, std::byte* data, int64_t bytes,
                       Done done) = 0;

  // Ends the lane on all members; `ended` runs when no memory is touched any
  // more, after every `done`.
  virtual void Cancel(const absl::Status& reason, Done ended) = 0;

  // Whether it waits for other operations, or for members that do.
  virtual bool Waiting() const = 0;
};

// Thread-safe.
class MessageLanes {
 public:
  virtual ~MessageLanes() = default;

  // Opens this agent's end of an operation's lane; its communicator is made
  // meanwhile. `patience`: how long nothing may move while no other operation
  // is in the way.
  // Errors: FAILED_PRECONDITION - no NCCL here (why). UNAVAILABLE - a member is
  // not known here. INVALID_ARGUMENT - `self` is none.
  virtual absl::StatusOr<std::unique_ptr<MessageLane>> Open(
      OperationId operation, const MessageGroup& group, Rank self,
      absl::Duration patience) = 0;

  // Packs to and from memory of the GPU.
  virtual PieceMover& mover() = 0;

  // A coordinator of a later epoch took over: ends what there is.
  virtual void Raise(Epoch epoch) = 0;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_MESSAGE_LANE_H_
