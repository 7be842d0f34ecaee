#include "coordinator/core_functions.h"

#include <memory>
#include <variant>

#include "common/overloaded.h"
#include "common/status_macros.h"
#include "coordinator/core/coordinator_core.h"
#include "coordinator/planner/planners.h"

namespace sluice::coordinator {

CoreFunctions MakeCore(const CoreOptions& options) {
  const auto core = std::make_shared<CoordinatorCore>(options);
  return {[core](absl::Time now, const Event& event) {
            return core->Step(now, event);
          },
          [core] { return core->Idle(); }};
}

absl::StatusOr<TransferPlan> PlanAndValidate(const PlanInput& input) {
  return std::visit(
      Overloaded{
          [](const ReshardInput& reshard) -> absl::StatusOr<TransferPlan> {
            SLUICE_ASSIGN_OR_RETURN(TransferPlan plan, PlanReshard(reshard));
            SLUICE_RETURN_IF_ERROR(ValidateReshard(reshard, plan));
            return plan;
          },
          [](const RedistributionInput& redistribution)
              -> absl::StatusOr<TransferPlan> {
            SLUICE_ASSIGN_OR_RETURN(TransferPlan plan,
                                    PlanRedistribution(redistribution));
            SLUICE_RETURN_IF_ERROR(
                ValidateRedistribution(redistribution, plan));
            return plan;
          },
      },
      input);
}

}  // namespace sluice::coordinator
