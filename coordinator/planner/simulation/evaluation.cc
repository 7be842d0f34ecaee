#include "coordinator/planner/simulation/evaluation.h"

#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/planner/certificate.h"
#include "coordinator/planner/planners.h"
#include "coordinator/planner/simulation/movement.h"
#include "coordinator/planner/simulation/pattern_plans.h"

namespace sluice::coordinator::simulation {
namespace {

constexpr PlanPattern kAllPatterns[] = {
    PlanPattern::kDirect, PlanPattern::kGatherScatter, PlanPattern::kBroadcast,
    PlanPattern::kTwoStage};

using Planner = std::function<absl::StatusOr<TransferPlan>(PlanPattern)>;

absl::StatusOr<Evaluation> EvaluateWith(const Planner& plan_as,
                                        const Movement& movement,
                                        absl::Span<const PlanPattern> patterns,
                                        const LinkTable& table,
                                        const SimulationOptions& options) {
  Evaluation out;
  out.bound = BoundSeconds(movement, table);
  std::vector<PlanPattern> all = {PlanPattern::kDirect};
  for (const PlanPattern pattern : patterns) {
    if (pattern != PlanPattern::kDirect) all.push_back(pattern);
  }
  for (const PlanPattern pattern : all) {
    PatternResult& result = out.patterns.emplace_back();
    result.pattern = pattern;
    absl::StatusOr<TransferPlan> plan = plan_as(pattern);
    if (!plan.ok()) {
      if (pattern == PlanPattern::kDirect) return plan.status();
      result.status = plan.status();
      continue;
    }
    result.plan = *std::move(plan);
    if (pattern == PlanPattern::kDirect) {
      out.lower_bound_bytes = result.plan.certificate.lower_bound_bytes;
    } else {
      result.plan.certificate = MakeCertificate(
          *movement.topology, result.plan.transfers, out.lower_bound_bytes,
          result.plan.certificate.wasted_bytes);
    }
    SLUICE_ASSIGN_OR_RETURN(
        result.simulated,
        Simulate(result.plan, *movement.topology, table, options));
  }
  return out;
}

Pattern ReferencePattern(PlanPattern pattern) {
  switch (pattern) {
    case PlanPattern::kDirect:
      return Pattern::kDirect;
    case PlanPattern::kGatherScatter:
      return Pattern::kGatherScatter;
    case PlanPattern::kBroadcast:
      return Pattern::kBroadcast;
    case PlanPattern::kTwoStage:
      break;
  }
  return Pattern::kUnspecified;
}

}  // namespace

std::string PatternName(PlanPattern pattern) {
  switch (pattern) {
    case PlanPattern::kDirect:
      return "DIRECT";
    case PlanPattern::kGatherScatter:
      return "GATHER_SCATTER";
    case PlanPattern::kBroadcast:
      return "BROADCAST";
    case PlanPattern::kTwoStage:
      return "TWO_STAGE";
  }
  return "?";
}

absl::StatusOr<PlanPattern> ParsePattern(absl::string_view name) {
  for (const PlanPattern pattern : kAllPatterns) {
    if (PatternName(pattern) == name) return pattern;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "pattern: expected DIRECT, GATHER_SCATTER, BROADCAST or TWO_STAGE, "
      "found \"",
      name, "\""));
}

double Evaluation::TimeRatio(const PatternResult& result) const {
  if (bound.seconds > 0) return result.simulated.seconds / bound.seconds;
  return result.simulated.seconds > 0 ? result.simulated.seconds / 1e-9 : 1;
}

absl::StatusOr<Evaluation> Evaluate(const ReshardInput& input,
                                    absl::Span<const PlanPattern> patterns,
                                    const LinkTable& table,
                                    const SimulationOptions& options) {
  // The planner's checks first: what follows trusts the input.
  SLUICE_ASSIGN_OR_RETURN(TransferPlan direct, PlanReshard(input));
  SLUICE_ASSIGN_OR_RETURN(const Movement movement, MovementOf(input));
  const Planner plan_as =
      [&](PlanPattern pattern) -> absl::StatusOr<TransferPlan> {
    switch (pattern) {
      case PlanPattern::kDirect:
        return std::move(direct);
      case PlanPattern::kGatherScatter:
        return GatherScatterPlan(movement);
      case PlanPattern::kBroadcast:
        return BroadcastPlan(movement);
      case PlanPattern::kTwoStage:
        return TwoStagePlan(input, movement);
    }
    return absl::InternalError("no such pattern");
  };
  return EvaluateWith(plan_as, movement, patterns, table, options);
}

absl::StatusOr<Evaluation> Evaluate(RedistributionInput input,
                                    absl::Span<const PlanPattern> patterns,
                                    const LinkTable& table,
                                    const SimulationOptions& options) {
  input.pattern = Pattern::kDirect;
  SLUICE_ASSIGN_OR_RETURN(TransferPlan direct, PlanRedistribution(input));
  SLUICE_ASSIGN_OR_RETURN(const Movement movement, MovementOf(input));
  const Planner plan_as =
      [&](PlanPattern pattern) -> absl::StatusOr<TransferPlan> {
    if (pattern == PlanPattern::kDirect) return std::move(direct);
    if (pattern == PlanPattern::kTwoStage) {
      return absl::InvalidArgumentError(
          "TWO_STAGE moves parameters, not samples");
    }
    input.pattern = ReferencePattern(pattern);
    return PlanRedistribution(input);
  };
  return EvaluateWith(plan_as, movement, patterns, table, options);
}

}  // namespace sluice::coordinator::simulation
