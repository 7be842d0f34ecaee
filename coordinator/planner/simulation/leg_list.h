#ifndef SLUICE_COORDINATOR_PLANNER_SIMULATION_LEG_LIST_H_
#define SLUICE_COORDINATOR_PLANNER_SIMULATION_LEG_LIST_H_

// Transfers in the making: added in any order of rounds, delivered in plan
// order.

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/plan.h"
#include "coordinator/planner/planner_inputs.h"

namespace sluice::coordinator::simulation {

class LegList {
 public:
  explicit LegList(const Topology& topology) : topology_(topology) {}

  // Adds a transfer; returns its number, for `reads_after` of one of a later
  // round.
  uint32_t Add(int32_t round, TransferKind kind, Rank source, Rank destination,
               int64_t bytes, std::optional<uint32_t> reads_after);
  int64_t size() const { return std::ssize(plan_.transfers); }

  // Orders transfers by round, then as they were added. Errors:
  // RESOURCE_EXHAUSTED - more than `limit`.
  absl::StatusOr<TransferPlan> Finish(int64_t limit) &&;

 private:
  const Topology& topology_;
  TransferPlan plan_;
};

}  // namespace sluice::coordinator::simulation

#endif  // SLUICE_COORDINATOR_PLANNER_SIMULATION_LEG_LIST_H_
