#ifndef SLUICE_AGENT_COLLECTIVE_NODE_SIDE_H_
#define SLUICE_AGENT_COLLECTIVE_NODE_SIDE_H_

// A member of a group among those of its node: its board, theirs, and the
// memories that they show each other.

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/collective/collective.h"
#include "agent/collective/group_board.h"
#include "agent/collective/group_directory.h"
#include "common/mutex.h"

namespace sluice::agent {

// Join and OpenMemory come on any thread; the rest is for the group's thread,
// where nothing else is said.
class NodeSide final : public GroupMember {
 public:
  // `near`: the other members on this node. Errors: RESOURCE_EXHAUSTED.
  static absl::StatusOr<std::shared_ptr<NodeSide>> Create(
      const CollectiveMembers& members, std::vector<int> near,
      GroupDirectory& directory);

  // GroupMember.
  absl::StatusOr<SharedDescriptor> Join(int from, uint64_t life,
                                        SharedDescriptor board) override;
  absl::StatusOr<SharedDescriptor> OpenMemory(int slot,
                                              uint32_t generation) override;

  const std::vector<int>& near() const { return near_; }
  // This member's board. Thread-safe.
  GroupBoard& own() const { return *own_; }
  // Null until met. Thread-safe.
  GroupBoard* board(int member) const;

  // Asks those who were not asked with success yet, of these only who is known
  // to be there unless `all`; blocks for at most `timeout` a member.
  void Ask(bool all, absl::Duration timeout);
  std::vector<int> NotMet() const;

  // Whether the process of a member has ended.
  bool Gone(int member) const;

  // Rings the bells of the others; of one of them.
  void RingAll() const;

  // Shows the ranges of call `ordinal` to the others.
  // Errors: INVALID_ARGUMENT - memory that no other process can map;
  // RESOURCE_EXHAUSTED - in more than GroupBoard::kMemorySlots memories.
  absl::Status ShowRanges(const CollectiveCall& call, uint64_t ordinal);
  // Maps memory of another member for reading, or returns its mapping.
  // Errors: NOT_FOUND, UNAVAILABLE, DEADLINE_EXCEEDED.
  absl::StatusOr<std::shared_ptr<MappedMemory>> Map(int member,
                                                    const BoardPlace& place,
                                                    absl::Duration timeout);
  // Lets go of what the owners have let go of.
  void DropStale();
  // Nobody joins any more: the group is over.
  void Close();

 private:
  struct Slot {
    std::weak_ptr<MappedMemory> memory;
    uint32_t generation = 0;
    uint64_t last_call = 0;
  };
  struct Mapping {
    uint32_t generation = 0;
    std::shared_ptr<MappedMemory> memory;
  };

  NodeSide(const CollectiveMembers& members, std::vector<int> near,
           GroupDirectory& directory, std::unique_ptr<GroupBoard> own);

  absl::Status Meet(int member, SharedDescriptor board);
  absl::StatusOr<BoardPlace> Show(const CollectiveRange& range,
                                  uint64_t ordinal)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status ShowSide(const std::vector<CollectiveRange>& ranges,
                        uint64_t ordinal, BoardPlace* places)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A slot that this call does not use, -1 if there is none.
  int FreeSlot(uint64_t ordinal) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const Peer& peer(int member) const;

  const CollectiveMembers members_;
  const uint64_t group_;
  const std::vector<int> near_;
  GroupDirectory& directory_;
  const std::unique_ptr<GroupBoard> own_;

  mutable Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  // By member; boards are never replaced.
  std::vector<std::unique_ptr<GroupBoard>> boards_ ABSL_GUARDED_BY(mutex_);
  std::array<Slot, GroupBoard::kMemorySlots> slots_ ABSL_GUARDED_BY(mutex_);
  uint32_t next_generation_ ABSL_GUARDED_BY(mutex_) = 1;
  // Of the group's thread: those asked with success (their end is noticed), and
  // mappings by member and slot.
  std::vector<bool> asked_;
  std::vector<absl::flat_hash_map<int, Mapping>> mappings_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_NODE_SIDE_H_
