#include "agent/core/placement_table.h"

#include "absl/strings/str_cat.h"

namespace sluice::agent {

std::string Placement::Name() const {
  return absl::StrCat(ref().model, "/", ref().placement);
}

std::string Placement::ContentKey(Version version) const {
  return absl::StrCat(Name(), "@", ref().generation, "#", version.value());
}

BoundPlacement Placement::Bind(int copy) const {
  BoundPlacement bound;
  bound.ref = ref();
  bound.spec = definition.spec;
  bound.layout = layout;
  bound.buffer = copies.copy(copy).buffer;
  bound.offset_bytes = copies.copy(copy).offset_bytes;
  return bound;
}

PlacementPtr PlacementTable::Find(absl::string_view model,
                                  absl::string_view placement) const {
  const auto it =
      placements_.find({std::string(model), std::string(placement)});
  return it == placements_.end() ? nullptr : it->second;
}

absl::StatusOr<PlacementPtr> PlacementTable::Resolve(
    const PlacementRef& ref) const {
  PlacementPtr placement = Find(ref.model, ref.placement);
  if (placement == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("placement ", ref.model, "/", ref.placement,
                     " is not defined on this agent"));
  }
  if (placement->ref().generation != ref.generation) {
    return absl::AbortedError(absl::StrCat(
        "placement ", placement->Name(), ": generation ", ref.generation,
        " is meant, ", placement->ref().generation, " is defined here"));
  }
  return placement;
}

PlacementPtr PlacementTable::Insert(PlacementPtr placement) {
  PlacementPtr& slot =
      placements_[{placement->ref().model, placement->ref().placement}];
  std::swap(slot, placement);
  if (placement != nullptr) placement->removed = true;
  return placement;
}

PlacementPtr PlacementTable::Remove(const PlacementRef& ref) {
  const auto it = placements_.find({ref.model, ref.placement});
  if (it == placements_.end()) return nullptr;
  PlacementPtr placement = std::move(it->second);
  placements_.erase(it);
  placement->removed = true;
  return placement;
}

std::vector<PlacementPtr> PlacementTable::All() const {
  std::vector<PlacementPtr> all;
  for (const auto& [name, placement] : placements_) all.push_back(placement);
  return all;
}

}  // namespace sluice::agent
