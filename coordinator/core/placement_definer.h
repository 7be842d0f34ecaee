#ifndef SLUICE_COORDINATOR_CORE_PLACEMENT_DEFINER_H_
#define SLUICE_COORDINATOR_CORE_PLACEMENT_DEFINER_H_

// Declares and removes models and placements: checks, memory, telling all
// members, making it durable, replying; and telling members again that were
// away.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/command.h"
#include "coordinator/core/agent_registry.h"
#include "coordinator/core/catalog.h"
#include "coordinator/core/core_context.h"
#include "coordinator/core/durable_log.h"
#include "coordinator/core/event_log.h"
#include "coordinator/core/id_allocator.h"
#include "coordinator/core/model_registry.h"
#include "coordinator/core/operation_tracker.h"
#include "coordinator/core/outcomes.h"

namespace sluice::coordinator {

// A placement is told to its members first and written when all of them have
// it; one that is not written is removed from members that come back with it.
class PlacementDefiner {
 public:
  struct Deps {
    CoreContext& context;
    EventLog& log;
    DurableLog& store;
    IdAllocator& ids;
    Outcomes& outcomes;
    AgentRegistry& agents;
    Catalog& catalog;
    ModelRegistry& models;
    const OperationTracker& operations;
  };

  explicit PlacementDefiner(const Deps& deps) : d_(deps) {}

  // Errors (as replies): see ModelService.
  void RegisterModel(const RegisterModelRequest& request);
  void RegisterPlacement(const RegisterPlacementRequest& request);
  void RemovePlacement(const RemovePlacementRequest& request);

  // A member has (or could not) define it.
  void OnDefined(Rank rank, const PlacementRef& ref,
                 const absl::Status& outcome);
  // Takes over what an agent holds, tells it what it should hold and does not,
  // and has it forget what is not declared. Returns the placements it holds.
  std::vector<Placement*> OnInventory(
      Rank rank, const std::vector<PlacementInventory>& inventory);
  void OnMembershipChange(const MembershipChange& change);
  // Ends what takes too long.
  void Tick();
  bool Idle() const {
    return models_pending_.empty() && placements_pending_.empty();
  }

 private:
  struct PendingModel {
    ModelSpec spec;
    std::vector<CallId> calls;
  };
  struct PendingPlacement {
    Placement placement;
    std::vector<CallId> calls;
    std::string request_id;
    std::set<Rank> unanswered;
    absl::Time deadline;
    bool writing = false;  // told to all; the record is being written
    // Members that lost it meanwhile: told again when it is written.
    std::set<Rank> tell_again;
  };
  using Name = std::pair<std::string, std::string>;

  absl::Status TryRegisterModel(const RegisterModelRequest& request);
  void OnModelWritten(const std::string& name, const OutcomeRecord& outcome,
                      const absl::Status& status);
  absl::Status TryRegisterPlacement(const RegisterPlacementRequest& request);
  // Makes a placement that is not known yet and tells its agents.
  absl::Status Define(const RegisterPlacementRequest& request,
                      const Model& model);
  absl::Status TryRemovePlacement(const RemovePlacementRequest& request);
  absl::StatusOr<Mesh> MakeMesh(const RegisterPlacementRequest& request);
  // Whether the request asks for just this placement.
  static bool IsSame(const Placement& placement,
                     const RegisterPlacementRequest& request);
  absl::Status CheckMemory(const Placement& placement) const;
  int64_t FreeMemory(Rank rank) const;
  PendingPlacement* FindPending(const PlacementRef& ref);
  void Write(PendingPlacement& pending);
  void OnWritten(const PlacementRef& ref, const absl::Status& status,
                 const OutcomeRecord& outcome);
  void Abandon(const PlacementRef& ref, const absl::Status& status);
  static RegisterPlacementReply ReplyFor(const Placement& placement);

  const Deps d_;
  std::map<std::string, PendingModel> models_pending_;
  std::map<Name, PendingPlacement> placements_pending_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_PLACEMENT_DEFINER_H_
