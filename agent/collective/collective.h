#ifndef SLUICE_AGENT_COLLECTIVE_COLLECTIVE_H_
#define SLUICE_AGENT_COLLECTIVE_COLLECTIVE_H_

// Collectives that workers issue: what one member asks for, and the group that
// carries it out. Implementations: host memory (host_group.h), NCCL
// (agent/nccl/nccl_group.h).

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "agent/device/mapped_memory.h"
#include "common/command.h"
#include "common/dtype.h"
#include "common/ids.h"

namespace sluice::agent {

enum class CollectiveKind {
  kBroadcast,      // root's inputs[0] to every outputs[0]
  kScatter,        // root's inputs[m] to outputs[0] of member m
  kGather,         // inputs[0] of member m to root's outputs[m]
  kAllGather,      // inputs[0] of member m to every outputs[m]
  kAllToAll,       // inputs[m] of member k to outputs[k] of member m
  kReduceScatter,  // inputs[m] of all, reduced, to outputs[0] of member m
};

enum class ReduceOp { kNone, kSum, kAverage };

absl::string_view CollectiveKindName(CollectiveKind kind);

// A run of elements in memory that peers of the node can map. Empty where
// `elements` is 0; `memory` may then be null.
struct CollectiveRange {
  std::shared_ptr<MappedMemory> memory;
  int64_t offset_bytes = 0;
  int64_t elements = 0;
};

// One member's side of a collective. Ranges that a kind does not use on this
// member are left out (empty vectors). Sizes may be uneven between members; the
// two sides of each piece agree, which is compared before data moves. Of a
// reduce-scatter, inputs[m] has the same size on all members.
// An input and the output of the same member may be the same range where that
// makes sense (a member's own piece of broadcast, all-gather, gather, scatter;
// inputs[self] of a reduce-scatter); else ranges do not overlap.
struct CollectiveCall {
  CollectiveKind kind = CollectiveKind::kBroadcast;
  DType dtype = DType::kUnspecified;
  ReduceOp reduce = ReduceOp::kNone;  // of kReduceScatter
  int root = 0;                       // member index; of the rooted kinds
  std::vector<CollectiveRange> inputs;
  std::vector<CollectiveRange> outputs;
  // The caller's digest of what is inside (its operation list), and words that
  // describe it for people ("op 17: float32[4096]"); must agree on all members.
  uint64_t fingerprint = 0;
  std::string description;
  // Of groups of GPUs: an event of their device (cuda::EventHandle), kept until
  // the call ends, behind which the ranges are touched. Null: at once.
  std::shared_ptr<void> after;
};

// Checks the shape of a call: ranges per kind, bounds, dtype, operation.
// Errors: INVALID_ARGUMENT - names what, expected and found.
absl::Status CheckCall(const CollectiveCall& call, int members, int self);

// Who takes part: the same list on every member.
struct CollectiveMembers {
  std::string name;  // of the group, for people and for finding each other
  std::vector<Peer> peers;  // all members, in the group's order
  int self = 0;             // index of this agent in it

  // Equal on all members exactly where name, ranks and incarnations are.
  uint64_t Id() const;
};

// A group as one member has it. Calls run one after the other, in the order of
// Run, which must be the same on all members; groups never wait for each other.
// Before data moves, members compare ordinal, kind, dtype, operation, root,
// sizes and fingerprint: a difference fails the call on all members with
// FAILED_PRECONDITION, naming two ranks and the first differing call.
//
// Thread-safe. Callbacks run on threads of the group, each exactly once, and
// may call Run again. They come in the order of the calls.
//
// A call that fails, fails the group: it and everything after it end with the
// same status on all members (the group is made anew after that).
class CollectiveGroup {
 public:
  using Done = absl::AnyInvocable<void(absl::Status) &&>;

  // As Abort, and waits for its end.
  virtual ~CollectiveGroup() = default;

  // Memory of the ranges stays untouched by the caller until `done`.
  // Status of `done`: OK - outputs hold the result and nobody reads the inputs
  // any more. INVALID_ARGUMENT - CheckCall. FAILED_PRECONDITION - members
  // differ. UNAVAILABLE - a member is gone (named). DEADLINE_EXCEEDED - nothing
  // moved for the progress timeout (names who did not come). ABORTED, CANCELLED
  // - the group was ended.
  virtual void Run(CollectiveCall call, Done done) = 0;

  // Ends everything with `reason`, here and on the other members. `ended` runs
  // when no memory is touched any more.
  virtual void Abort(absl::Status reason,
                     absl::AnyInvocable<void() &&> ended) = 0;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_COLLECTIVE_H_
