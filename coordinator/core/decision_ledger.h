#ifndef SLUICE_COORDINATOR_CORE_DECISION_LEDGER_H_
#define SLUICE_COORDINATOR_CORE_DECISION_LEDGER_H_

// Decisions that are written and not yet confirmed by every agent: the only
// memory of what was committed. An operation that is not in here and not
// running was aborted.

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "absl/time/time.h"
#include "common/ids.h"
#include "common/plan.h"
#include "coordinator/core/core_context.h"
#include "coordinator/core/durable_log.h"
#include "coordinator/core/records.h"

namespace sluice::coordinator {

struct Decision {
  DecisionRecord record;
  // Agents that may not have committed yet.
  std::set<Rank> unconfirmed;
  // Redistributions of this life: what each agent inserts when it commits.
  std::map<Rank, std::shared_ptr<const PlanPart>> landing;
  // Of an earlier life: what agents insert is learned from their inventory.
  bool restored = false;
  absl::Time since;
};

// Invariant: each decision in here has its record in the store, until the last
// agent has confirmed or was given up.
class DecisionLedger {
 public:
  DecisionLedger(CoreContext& context, DurableLog& store)
      : context_(context), store_(store) {}

  // Adds a decision whose record is durable.
  void Add(Decision decision);
  // Returns nullptr if nothing is left to confirm.
  const Decision* Find(OperationId operation) const;
  // The agent has committed, or can no more. Erases the record with the last.
  void Confirm(OperationId operation, Rank rank);
  // Decisions an agent has not confirmed, ascending.
  std::vector<OperationId> UnconfirmedBy(Rank rank) const;
  // Gives up agents that have been away for as long as outcomes are kept;
  // `is_away(rank)` tells.
  void Tick(const std::function<bool(Rank)>& is_away);

 private:
  CoreContext& context_;
  DurableLog& store_;
  std::map<OperationId, Decision> decisions_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_DECISION_LEDGER_H_
