#ifndef SLUICE_COORDINATOR_CORE_PLACEMENT_H_
#define SLUICE_COORDINATOR_CORE_PLACEMENT_H_

// A placement as the coordinator knows it: its geometry, and what each of its
// members holds.

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/command.h"
#include "common/layout.h"
#include "common/mesh.h"
#include "common/model.h"

namespace sluice::coordinator {

// What one member holds: the copy readers see, or the state that keeps them
// from it.
struct PlacementMember {
  Rank rank = kNoRank;
  CopyInventory copy;
  int64_t bytes = 0;  // of all its copies, as its inventory said
  bool lent = false;  // a worker lends the memory (kLent)
  // Why it could not define the placement; OK otherwise.
  absl::Status define_error;
};

// Which version the content of a worker's step became.
struct StepVersion {
  Version version;
  // Replicas that ended the step and have the version.
  std::set<int64_t> replicas;
  bool durable = false;
};

// Invariant: agents, mesh.ranks, bytes, replica_of and members have one entry
// per mesh index.
struct Placement {
  PlacementRef ref;
  std::shared_ptr<const ModelSpec> spec;
  std::shared_ptr<const Layout> layout;
  Mesh mesh;
  std::vector<std::string> agents;
  Storage storage = Storage::kArena;
  std::vector<int64_t> bytes;  // of one copy
  std::vector<int64_t> replica_of;
  int64_t num_replicas = 1;

  std::vector<PlacementMember> members;
  // The last few steps that became versions.
  std::map<int64_t, StepVersion> steps;
  // Replicas whose memory was opened for writing since their last version.
  std::set<int64_t> written;

  // Copies of the content an agent has to have room for.
  int64_t CopiesReserved() const { return storage == Storage::kLent ? 0 : 2; }
  // Returns nullptr if the rank is no member.
  PlacementMember* Member(Rank rank);
  const PlacementMember* Member(Rank rank) const;
  // Returns the mesh index of a member; -1 if it is none.
  int64_t IndexOf(Rank rank) const;
  std::vector<Rank> RanksOfReplica(int64_t replica) const;
  // Returns the version that all members of the replica publish; 0 if they do
  // not publish the same.
  Version ReplicaVersion(int64_t replica) const;
  // Returns the newest version that a whole replica publishes.
  Version NewestComplete() const;
  // Returns the step that all members of the replica have ended and whose
  // version is not known to all of them; 0 if there is none.
  int64_t UnassignedStep(int64_t replica) const;
  // Whether a writer is at work in a replica: a bracket is open, or some
  // members have ended a step and others have not.
  bool BeingWritten() const;
  // What member `index` is told of the placement.
  PlacementDefinition DefinitionFor(int64_t index) const;
  std::string Name() const { return ref.model + "/" + ref.placement; }
};

// Returns the copy that counts among those of an inventory: the newest
// published one, else the one that says most.
CopyInventory CountingCopy(const std::vector<CopyInventory>& copies);

// "published", "torn", ...
const char* CopyStateName(CopyState state);

// Fills in everything that follows from ref, spec, layout, mesh, agents and
// storage. Errors: as CheckLayout and ExpandLayout.
absl::StatusOr<Placement> MakePlacement(PlacementRef ref,
                                        std::shared_ptr<const ModelSpec> spec,
                                        Layout layout, Mesh mesh,
                                        std::vector<std::string> agents,
                                        Storage storage);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_PLACEMENT_H_
