#ifndef SLUICE_AGENT_NCCL_MEMBER_SLOTS_H_
#define SLUICE_AGENT_NCCL_MEMBER_SLOTS_H_

// What members of a group of GPUs tell each other: few bytes of each, given to
// all by a call of a group of host memory. One exchange at a time.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/collective/collective.h"
#include "agent/device/device.h"
#include "agent/device/mapped_memory.h"

namespace sluice::agent {

// Own slot, then those of all members.
class MemberSlots {
 public:
  // Errors: what the device says of the memory.
  static absl::StatusOr<MemberSlots> Create(Device& host,
                                            const CollectiveMembers& members);

  // Sets what this member gives. Errors: INVALID_ARGUMENT - too long.
  absl::Status Write(const std::string& own) const;
  // The exchange: the same call on all members.
  CollectiveCall Call() const;
  // Returns what members gave, in their order, once the call has ended well.
  // Errors: INTERNAL - what came is no such thing.
  absl::StatusOr<std::vector<std::string>> Read() const;

 private:
  MemberSlots(int members, std::shared_ptr<MappedMemory> memory)
      : members_(members), memory_(std::move(memory)) {}
  std::byte* Slot(int index) const;

  const int members_;
  const std::shared_ptr<MappedMemory> memory_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_NCCL_MEMBER_SLOTS_H_
