#ifndef SLUICE_AGENT_CORE_COPY_STATES_H_
#define SLUICE_AGENT_CORE_COPY_STATES_H_

// The copies of one placement on one agent, and which of them is current: one
// copy in lent memory, two in arenas (a sync fills the one not published).

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/core/events.h"
#include "common/command.h"
#include "common/ids.h"

namespace sluice::agent {

struct Copy {
  CopyState state = CopyState::kAbsent;
  // Of the content; while filling and staged what it will be (0: the commit
  // tells).
  Version version;
  OperationId operation;  // that fills or staged it
  int64_t step = 0;       // worker's step of the content
  BufferId buffer;        // 0: no memory
  int64_t offset_bytes = 0;
  // Operations that read it, until they are released.
  std::set<OperationId> readers;
  // Pins, with their workers' names.
  std::map<PinId, std::string> pins;
  // Prepares that wait to overwrite it: no new pin until then.
  std::set<OperationId> wanted_by;

  bool occupied() const {
    return state == CopyState::kFilling || state == CopyState::kStaged;
  }
  // Who must end before this copy can be overwritten: "operation 7, worker w";
  // empty if nobody.
  std::string Users() const;
};

// Not thread-safe. Invariants: at most one copy is current, and it is
// published; only a copy without readers and pins is filled or written.
//
//   absent -> filling (1) -> staged (2) -> published (3)
//   filling, staged -> absent, or torn in lent memory (4)
//   published (lent) -> writing (5) -> published, version later (6), or torn
//   (7)
//   published (lent) -> torn, without memory (8)
class CopySet {
 public:
  explicit CopySet(int num_copies) : copies_(static_cast<size_t>(num_copies)) {}

  int size() const { return static_cast<int>(copies_.size()); }
  Copy& copy(int index) { return copies_[static_cast<size_t>(index)]; }
  const Copy& copy(int index) const {
    return copies_[static_cast<size_t>(index)];
  }
  bool lent() const { return copies_.size() == 1; }

  // Index of the copy new readers get; nullopt if none is published.
  std::optional<int> current() const { return current_; }
  Version current_version() const {
    return current_.has_value() ? copy(*current_).version : Version();
  }
  // Index of a published copy of the version (not 0); nullopt if none.
  std::optional<int> FindPublished(Version version) const;
  // Whether a fill or a staged copy may still become the version.
  bool MayBecome(Version version) const;
  // Index of the copy that a sync or load overwrites.
  int Target() const;

  void BeginFill(int index, OperationId operation, Version version);  // (1)
  void Stage(int index);                                              // (2)
  void Publish(int index, Version version);                           // (3)
  void Discard(int index);                                            // (4)
  void BeginWrite();                                                  // (5)
  void EndWrite(int64_t step);                                        // (6)
  // Gives the content of a step its version; false if it is not here.
  bool AssignVersion(int64_t step, Version version);
  void Tear();  // (7)
  // The lent memory has ended: nothing is readable, nobody can fill it (8).
  // Whoever reads it still counts as a user. Not while it is filled or written.
  void Lose();
  // The lent memory is another one now, with this content (0, 0: none).
  void Replace(BufferId buffer, int64_t offset_bytes, Version version,
               int64_t step);

  std::vector<CopyInventory> Inventory() const;

 private:
  std::vector<Copy> copies_;
  std::optional<int> current_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_COPY_STATES_H_
