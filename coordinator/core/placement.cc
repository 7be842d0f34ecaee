#include "coordinator/core/placement.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"

namespace sluice::coordinator {
namespace {

// Of copies none of which is published: which says most about the agent.
int Weight(CopyState state) {
  switch (state) {
    case CopyState::kWriting:
      return 5;
    case CopyState::kTorn:
      return 4;
    case CopyState::kFilling:
      return 3;
    case CopyState::kStaged:
      return 2;
    case CopyState::kPublished:
      return 1;
    case CopyState::kAbsent:
      break;
  }
  return 0;
}

}  // namespace

const char* CopyStateName(CopyState state) {
  switch (state) {
    case CopyState::kAbsent:
      return "absent";
    case CopyState::kStaged:
      return "staged";
    case CopyState::kPublished:
      return "published";
    case CopyState::kTorn:
      return "torn";
    case CopyState::kWriting:
      return "being written";
    case CopyState::kFilling:
      return "being filled";
  }
  return "unknown";
}

CopyInventory CountingCopy(const std::vector<CopyInventory>& copies) {
  CopyInventory best;
  for (const CopyInventory& copy : copies) {
    const bool published = copy.state == CopyState::kPublished;
    const bool best_published = best.state == CopyState::kPublished;
    bool better = Weight(copy.state) > Weight(best.state);
    if (published && best_published) {
      better = copy.version > best.version ||
               (copy.version == best.version && copy.step > best.step);
    } else if (published || best_published) {
      better = published;
    }
    if (better) best = copy;
  }
  return best;
}

PlacementMember* Placement::Member(Rank rank) {
  const int64_t index = IndexOf(rank);
  return index < 0 ? nullptr : &members[static_cast<size_t>(index)];
}

const PlacementMember* Placement::Member(Rank rank) const {
  return const_cast<Placement*>(this)->Member(rank);
}

int64_t Placement::IndexOf(Rank rank) const {
  const auto it = std::find(mesh.ranks.begin(), mesh.ranks.end(), rank);
  return it == mesh.ranks.end() ? -1 : it - mesh.ranks.begin();
}

std::vector<Rank> Placement::RanksOfReplica(int64_t replica) const {
  std::vector<Rank> ranks;
  for (size_t i = 0; i < replica_of.size(); ++i) {
    if (replica_of[i] == replica) ranks.push_back(mesh.ranks[i]);
  }
  return ranks;
}

Version Placement::ReplicaVersion(int64_t replica) const {
  Version version;
  for (size_t i = 0; i < members.size(); ++i) {
    if (replica_of[i] != replica) continue;
    const CopyInventory& copy = members[i].copy;
    if (copy.state != CopyState::kPublished) return Version();
    if (version != Version() && copy.version != version) return Version();
    if (copy.version == Version()) return Version();
    version = copy.version;
  }
  return version;
}

Version Placement::NewestComplete() const {
  Version newest;
  for (int64_t r = 0; r < num_replicas; ++r) {
    newest = std::max(newest, ReplicaVersion(r));
  }
  return newest;
}

int64_t Placement::UnassignedStep(int64_t replica) const {
  int64_t step = 0;
  bool unassigned = false;
  for (size_t i = 0; i < members.size(); ++i) {
    if (replica_of[i] != replica) continue;
    const CopyInventory& copy = members[i].copy;
    if (copy.state != CopyState::kPublished || copy.step == 0) return 0;
    if (step != 0 && copy.step != step) return 0;
    step = copy.step;
    unassigned = unassigned || copy.version == Version();
  }
  return unassigned ? step : 0;
}

bool Placement::BeingWritten() const {
  return std::any_of(members.begin(), members.end(),
                     [](const PlacementMember& member) {
                       return member.copy.state == CopyState::kWriting ||
                              (member.copy.state == CopyState::kPublished &&
                               member.copy.version == Version());
                     });
}

PlacementDefinition Placement::DefinitionFor(int64_t index) const {
  return PlacementDefinition{ref, spec, layout, mesh, agents, index, storage};
}

absl::StatusOr<Placement> MakePlacement(PlacementRef ref,
                                        std::shared_ptr<const ModelSpec> spec,
                                        Layout layout, Mesh mesh,
                                        std::vector<std::string> agents,
                                        Storage storage) {
  SLUICE_RETURN_IF_ERROR(CheckLayout(*spec, layout, mesh));
  Placement placement;
  placement.ref = std::move(ref);
  placement.spec = std::move(spec);
  placement.layout = std::make_shared<const Layout>(std::move(layout));
  placement.mesh = std::move(mesh);
  placement.agents = std::move(agents);
  placement.storage = storage;
  SLUICE_ASSIGN_OR_RETURN(
      placement.bytes,
      LayoutBytesOnAll(*placement.spec, *placement.layout, placement.mesh));
  placement.num_replicas = NumReplicas(*placement.layout, placement.mesh);
  for (int64_t i = 0; i < placement.mesh.size(); ++i) {
    placement.replica_of.push_back(
        ReplicaOf(*placement.layout, placement.mesh, i));
    PlacementMember member;
    member.rank = placement.mesh.ranks[static_cast<size_t>(i)];
    placement.members.push_back(std::move(member));
  }
  return placement;
}

}  // namespace sluice::coordinator
