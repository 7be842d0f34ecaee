#ifndef SLUICE_AGENT_EXECUTOR_BOARD_H_
#define SLUICE_AGENT_EXECUTOR_BOARD_H_

// The board of one operation on one agent: words in shared memory by which the
// agent tells peers of its node, who pull from it, how far it is. One slot per
// transfer of the plan; the agent writes the slots of transfers it is the
// source of, pullers only read (and poke).
//
// The epoch grows with each change; waiting for a change is a futex on it, so a
// waiting puller costs nothing and is woken at once.

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/mapped_memory.h"
#include "common/digest_value.h"
#include "common/ids.h"

namespace sluice::agent {

// Thread-safe; usable by any number of processes that map the memory.
class Board {
 public:
  // Makes a board of `num_slots` slots. Errors: RESOURCE_EXHAUSTED.
  static absl::StatusOr<std::unique_ptr<Board>> Create(OperationId operation,
                                                       uint32_t num_slots);
  // Looks at a peer's board of the same operation and plan.
  // Errors: INVALID_ARGUMENT - the memory is no such board.
  static absl::StatusOr<std::unique_ptr<Board>> Open(
      std::shared_ptr<MappedMemory> memory, OperationId operation,
      uint32_t num_slots);

  const std::shared_ptr<MappedMemory>& memory() const { return memory_; }

  // The first `bytes` bytes of the transfer's stream may be read; never less
  // than before.
  void SetAvailable(uint32_t id, int64_t bytes);
  int64_t available(uint32_t id) const;

  // The digest of the transfer at its source; set once.
  void PublishDigest(uint32_t id, const Digest& digest);
  std::optional<Digest> digest(uint32_t id) const;

  // The operation failed here because of `culprit` (kNoRank: nobody else). The
  // first call counts.
  void Fail(Rank culprit);
  // nullopt while it has not failed.
  std::optional<Rank> failed() const;

  uint32_t epoch() const;
  // Tells those who wait that something moved, or wakes them to look elsewhere.
  void Poke();
  // Waits until the epoch is not `seen`, or `timeout` has passed.
  void Wait(uint32_t seen, absl::Duration timeout) const;

 private:
  struct Header;
  struct Slot;

  Board(std::shared_ptr<MappedMemory> memory, uint32_t num_slots);
  Slot* slot(uint32_t id) const;

  std::shared_ptr<MappedMemory> memory_;
  Header* header_;
  uint32_t num_slots_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_EXECUTOR_BOARD_H_
