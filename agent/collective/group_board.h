#ifndef SLUICE_AGENT_COLLECTIVE_GROUP_BOARD_H_
#define SLUICE_AGENT_COLLECTIVE_GROUP_BOARD_H_

// What one member of a group shows to those of its node, in shared memory that
// they map: its call's header, where its ranges lie, how far it is, and why it
// ended. Only the owner writes, but for the bell, which others ring.

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/collective/call_header.h"
#include "agent/device/mapped_memory.h"

namespace sluice::agent {

// Where a range lies: bytes of the memory in `slot`, of that generation.
struct BoardPlace {
  int32_t slot = -1;  // -1: nowhere
  uint32_t generation = 0;
  int64_t offset = 0;
};

// Thread-safe; usable by any number of processes that map the memory.
class GroupBoard {
 public:
  // Memories that a member shows at once.
  static constexpr int kMemorySlots = 256;

  // Errors: RESOURCE_EXHAUSTED.
  static absl::StatusOr<std::unique_ptr<GroupBoard>> Create(uint64_t group,
                                                            int member,
                                                            int members,
                                                            uint64_t life);
  // Looks at the board of another member.
  // Errors: INVALID_ARGUMENT - the memory is no board of it.
  static absl::StatusOr<std::unique_ptr<GroupBoard>> Open(
      std::shared_ptr<MappedMemory> memory, uint64_t group, int member,
      int members);

  const std::shared_ptr<MappedMemory>& memory() const { return memory_; }
  uint64_t life() const;

  // The call's header: written by the owner, valid once `ordinal` says so.
  void* header_block() const;
  // Places of inputs (then outputs) of that call.
  BoardPlace* input_places() const;
  BoardPlace* output_places() const;
  // Call whose header is shown; resets what relays have.
  void ShowCall(uint64_t ordinal);
  uint64_t shown_call() const;

  // Bytes of outputs[i] that are there, of those that others follow.
  void SetRelayed(int output, int64_t bytes);
  int64_t relayed(int output) const;

  // Calls whose part is done here; calls known to be done everywhere.
  void SetFinished(uint64_t ordinal);
  uint64_t finished() const;
  void SetCompleted(uint64_t ordinal);
  uint64_t completed() const;

  // Whether the owner may be reading memory of others.
  void SetReading(bool reading);
  bool reading() const;

  // Grows with whatever moves; for noticing that nothing does.
  void AddMoved(int64_t bytes);
  uint64_t moved() const;

  // How often the owner has said that it waits and nothing moves: it lives, and
  // others wait for someone else.
  void AddStall();
  uint64_t stalls() const;

  // Generation of the memory in a slot; 0 for none.
  void SetGeneration(int slot, uint32_t generation);
  uint32_t generation(int slot) const;

  // The owner ends, because of `status` (not OK). The first call counts.
  void Fail(const absl::Status& status);
  // OK while it has not.
  absl::Status failure() const;

  // The owner's bell: waits until it was rung since `seen`, or for `timeout`.
  uint32_t bell() const;
  void Ring();
  void WaitForBell(uint32_t seen, absl::Duration timeout) const;

 private:
  struct Layout;

  GroupBoard(std::shared_ptr<MappedMemory> memory, int members);

  std::shared_ptr<MappedMemory> memory_;
  Layout* layout_;
  int members_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_GROUP_BOARD_H_
