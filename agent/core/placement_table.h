#ifndef SLUICE_AGENT_CORE_PLACEMENT_TABLE_H_
#define SLUICE_AGENT_CORE_PLACEMENT_TABLE_H_

// Placements as defined on this agent: geometry, copies, who lends the memory
// and whose write bracket is open.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/core/copy_states.h"
#include "agent/core/effects.h"
#include "agent/core/events.h"
#include "common/command.h"
#include "common/model.h"

namespace sluice::agent {

// An open write bracket.
struct Bracket {
  SessionId session;
  std::string worker;
};

struct Placement {
  explicit Placement(int num_copies) : copies(num_copies) {}

  PlacementDefinition definition;
  std::shared_ptr<const RankLayout> layout;
  int64_t replica = 0;
  CopySet copies;
  // Whether its memory is there (arenas answered by the host).
  bool ready = false;
  // Forgotten or replaced: operations that touch it go on, nobody finds it.
  bool removed = false;

  // Lent memory: who lent it last.
  SessionId lender;
  std::string lender_name;
  bool ends_with_worker = false;  // the memory, with the lender's process
  std::optional<Bracket> bracket;
  // Lent memory: the overwriting its worker was told of and the one it knows of
  // (overwrites.h); 0: none.
  uint64_t overwrite_announced = 0;
  uint64_t overwrite_known = 0;
  // Highest step ended; steps increase.
  int64_t last_step = 0;

  const PlacementRef& ref() const { return definition.ref; }
  bool lent() const { return definition.storage == Storage::kLent; }
  // "model/placement".
  std::string Name() const;
  // Names the content of a version for digest caches.
  std::string ContentKey(Version version) const;
  BoundPlacement Bind(int copy) const;
};

using PlacementPtr = std::shared_ptr<Placement>;

// One copy of a placement, as an operation or a pin refers to it.
struct CopyRef {
  PlacementPtr placement;
  int index = 0;

  Copy& copy() const { return placement->copies.copy(index); }
};

// Not thread-safe.
class PlacementTable {
 public:
  // Returns null if there is none.
  PlacementPtr Find(absl::string_view model, absl::string_view placement) const;
  // Errors: FAILED_PRECONDITION - unknown; ABORTED - another generation.
  absl::StatusOr<PlacementPtr> Resolve(const PlacementRef& ref) const;

  // Replaces what had the name; that is returned, marked removed, or null.
  PlacementPtr Insert(PlacementPtr placement);
  // Takes it out, marked removed; null if there is none.
  PlacementPtr Remove(const PlacementRef& ref);

  // In order of names.
  std::vector<PlacementPtr> All() const;

 private:
  std::map<std::pair<std::string, std::string>, PlacementPtr> placements_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_PLACEMENT_TABLE_H_
