#ifndef SLUICE_AGENT_COLLECTIVE_GROUP_DIRECTORY_H_
#define SLUICE_AGENT_COLLECTIVE_GROUP_DIRECTORY_H_

// How members of a group on one node find each other: each shows what it shares
// and asks the others for theirs.

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/unique_fd.h"
#include "common/command.h"

namespace sluice::agent {

// A descriptor of shared memory and its size.
struct SharedDescriptor {
  UniqueFd fd;
  int64_t bytes = 0;
};

// One member of one group.
struct GroupMemberKey {
  uint64_t group = 0;  // CollectiveMembers::Id()
  int member = 0;
  friend bool operator==(const GroupMemberKey&,
                         const GroupMemberKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const GroupMemberKey& key) {
    return H::combine(std::move(h), key.group, key.member);
  }
};

// What a member of this agent answers to the others. Called on any thread; must
// not block.
class GroupMember {
 public:
  virtual ~GroupMember() = default;

  // Member `from` shows its board; `life` tells its groups of one id apart.
  // Returns this member's board. The same life may join again.
  // Errors: NOT_FOUND - this group is over, or has met another life of it.
  virtual absl::StatusOr<SharedDescriptor> Join(int from, uint64_t life,
                                                SharedDescriptor board) = 0;

  // Returns memory of this member for reading, as its board numbers it.
  // Errors: NOT_FOUND - there is no such memory any more.
  virtual absl::StatusOr<SharedDescriptor> OpenMemory(int slot,
                                                      uint32_t generation) = 0;
};

// Thread-safe.
class GroupDirectory {
 public:
  virtual ~GroupDirectory() = default;

  // Shows a member of this agent until Remove; another one of the same key is
  // replaced.
  virtual void Add(const GroupMemberKey& self,
                   std::shared_ptr<GroupMember> member) = 0;
  // Nothing if `member` was replaced.
  virtual void Remove(const GroupMemberKey& self,
                      const GroupMember* member) = 0;

  // Asks a peer of this node, as GroupMember says; blocks for at most
  // `timeout`. Errors: also UNAVAILABLE - it is gone; DEADLINE_EXCEEDED.
  virtual absl::StatusOr<SharedDescriptor> Join(const Peer& peer,
                                                const GroupMemberKey& key,
                                                int from, uint64_t life,
                                                SharedDescriptor board,
                                                absl::Duration timeout) = 0;
  virtual absl::StatusOr<SharedDescriptor> OpenMemory(
      const Peer& peer, const GroupMemberKey& key, int slot,
      uint32_t generation, absl::Duration timeout) = 0;

  // Whether a peer, in the incarnation named, has ended; of one that was never
  // asked anything, whether it cannot be reached.
  virtual bool Gone(const Peer& peer) = 0;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_GROUP_DIRECTORY_H_
