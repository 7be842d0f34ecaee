#ifndef SLUICE_COORDINATOR_PLANNER_SIMULATION_EVALUATION_H_
#define SLUICE_COORDINATOR_PLANNER_SIMULATION_EVALUATION_H_

// Plans of several patterns for one movement, each simulated, beside what no
// plan can do without.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/link_table.h"
#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"
#include "coordinator/planner/simulation/simulator.h"
#include "coordinator/planner/simulation/time_bound.h"

namespace sluice::coordinator::simulation {

enum class PlanPattern { kDirect, kGatherScatter, kBroadcast, kTwoStage };

// "DIRECT", "GATHER_SCATTER", "BROADCAST", "TWO_STAGE".
std::string PatternName(PlanPattern pattern);
// Errors: INVALID_ARGUMENT - lists the names there are.
absl::StatusOr<PlanPattern> ParsePattern(absl::string_view name);

struct PatternResult {
  PlanPattern pattern = PlanPattern::kDirect;
  // Why there is no plan: the pattern cannot do this. OK: there is one.
  absl::Status status;
  TransferPlan plan;
  SimulationResult simulated;
};

struct Evaluation {
  TimeBound bound;
  int64_t lower_bound_bytes = 0;
  std::vector<PatternResult> patterns;  // kDirect first

  // Simulated over the bound's seconds; 1 where both are 0.
  double TimeRatio(const PatternResult& result) const;
};

// kDirect is planned whether or not it is among `patterns`: the bound in bytes
// is its certificate's. A pattern that cannot do the movement says so in its
// result. TWO_STAGE is for reshards only.
// Errors: as the planners (of kDirect), MovementOf and Simulate.
absl::StatusOr<Evaluation> Evaluate(const ReshardInput& input,
                                    absl::Span<const PlanPattern> patterns,
                                    const LinkTable& table,
                                    const SimulationOptions& options = {});
absl::StatusOr<Evaluation> Evaluate(RedistributionInput input,
                                    absl::Span<const PlanPattern> patterns,
                                    const LinkTable& table,
                                    const SimulationOptions& options = {});

}  // namespace sluice::coordinator::simulation

#endif  // SLUICE_COORDINATOR_PLANNER_SIMULATION_EVALUATION_H_
