#ifndef SLUICE_COORDINATOR_CORE_MESSAGE_GROUPS_H_
#define SLUICE_COORDINATOR_CORE_MESSAGE_GROUPS_H_

// Groups of agents whose GPUs exchange messages of operations by NCCL: who
// belongs to one, and which communicators may be used again.

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/plan.h"
#include "coordinator/core/operation_types.h"

namespace sluice::coordinator {

// An agent as NCCL is concerned.
struct NcclSeat {
  std::string name;
  int32_t version = 0;      // 0: no NCCL
  std::string device = {};  // two of the same share a GPU
};

// Returns the ranks, in order, that exchange messages by NCCL; none where all
// goes by UCX. Two agents do where bytes cross nodes between them and both have
// NCCL. Under kAuto none do where two of them share a GPU, which NCCL mostly
// refuses; where it is asked for, agents find that out by themselves.
// Errors: FAILED_PRECONDITION - kNccl, and an agent that bytes cross to or from
// has none, or two have different ones (named).
absl::StatusOr<std::vector<Rank>> ChooseMembers(
    Transport transport, const std::vector<const PlanPart*>& parts,
    absl::FunctionRef<NcclSeat(Rank)> seat);

// A value; not thread-safe. One life of a coordinator, that is, one epoch.
//
// Invariant: no two operations have a group of the same name and members at a
// time.
class MessageGroups {
 public:
  // Returns a group for an operation: one that was used before, if there is
  // one, else one with a new name.
  MessageGroup Take(Epoch epoch, std::vector<MessageGroup::Member> members);

  // Its operation has ended. After one that did not end well, no group that
  // was used before is used again: agents cannot tell which of their
  // communicators it broke before all of them have heard of it.
  void Return(MessageGroup group, bool well);

 private:
  uint64_t names_ = 0;
  std::deque<MessageGroup> free_;  // last used first
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_MESSAGE_GROUPS_H_
