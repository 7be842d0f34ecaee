#ifndef SLUICE_COORDINATOR_CORE_MODEL_REGISTRY_H_
#define SLUICE_COORDINATOR_CORE_MODEL_REGISTRY_H_

// Models, their placements, and the versions their replicas hold.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/command.h"
#include "coordinator/core/operation_types.h"
#include "coordinator/core/placement.h"
#include "coordinator/core/records.h"

namespace sluice::coordinator {

struct Model {
  std::shared_ptr<const ModelSpec> spec;
  // The newest version ever given; the next one is higher.
  Version last_version;
  std::map<std::string, Placement> placements;
};

// A version for the content of a step that a whole replica has ended.
struct StepAssignment {
  PlacementRef placement;
  int64_t replica = 0;
  int64_t step = 0;
  Version version;
  bool is_new = false;  // to be made durable before it is told
};

// Thread rule: not thread-safe; used inside Step() only.
//
// Invariants: versions of a model are given once, in increasing order; a
// member's copy says what the agent told last, or what it confirmed since.
class ModelRegistry {
 public:
  void AddModel(std::shared_ptr<const ModelSpec> spec, Version last_version);
  void AddPlacement(Placement placement);
  void RemovePlacement(const PlacementRef& ref);
  // Takes over a stored version.
  void Restore(const VersionRecord& record);

  // Errors: NOT_FOUND - names the model, or the placement.
  absl::StatusOr<Model*> FindModel(absl::string_view model);
  absl::StatusOr<Placement*> FindPlacement(absl::string_view model,
                                           absl::string_view placement);
  // Returns the placement as defined in this generation, or nullptr.
  Placement* Find(const PlacementRef& ref);
  const std::map<std::string, Model, std::less<>>& models() const {
    return models_;
  }

  // Placements an agent is a member of.
  std::vector<Placement*> PlacementsOf(Rank rank);
  // Bytes of memory that placements may use on an agent.
  int64_t ReservedBytes(Rank rank) const;

  // Gives the model's next version.
  Version NewVersion(const std::string& model);
  // Nothing the agent held is there any more.
  void ForgetAgent(Rank rank);
  // What an inventory says of a placement in its generation.
  void SetInventory(Placement& placement, Rank rank,
                    const PlacementInventory& inventory);
  // A worker changed a member's memory. Errors: NOT_FOUND - the placement or
  // the member is unknown; INVALID_ARGUMENT - a version never given, a kind
  // that is unspecified.
  absl::Status ApplyWrite(Rank rank, const WriteEvent& write);
  // Gives the step that all members of the replica have ended its version:
  // that of another replica that ended the same step, or a new one. nullopt if
  // there is no such step, or its version is not durable yet. SetAssigned makes
  // it visible.
  std::optional<StepAssignment> AssignStep(Placement& placement,
                                           int64_t replica);
  // The assignment is durable: members that still hold the step have it.
  void SetAssigned(const StepAssignment& assignment);
  // Nobody reads this member's copy: an operation writes it in place, or has
  // left it half written.
  void SetUnreadable(const PlacementRef& ref, Rank rank, CopyState state);
  // An agent publishes a version now.
  void SetPublished(const PlacementRef& ref, Rank rank, Version version);

 private:
  std::map<std::string, Model, std::less<>> models_;
};

// As the coordinator shows it. `exception_of(rank)` says why a member cannot
// be used whatever it holds ("lost"); empty if it can.
PlacementStatus DescribePlacement(
    const Placement& placement,
    const std::function<std::string(Rank)>& exception_of);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_MODEL_REGISTRY_H_
