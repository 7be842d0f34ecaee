#include "coordinator/core/decision_ledger.h"

#include <utility>
#include <vector>

namespace sluice::coordinator {

void DecisionLedger::Add(Decision decision) {
  decision.since = context_.now;
  const OperationId operation = decision.record.operation;
  decisions_.insert_or_assign(operation, std::move(decision));
  Confirm(operation, kNoRank);  // nobody may be left to confirm
}

const Decision* DecisionLedger::Find(OperationId operation) const {
  const auto it = decisions_.find(operation);
  return it == decisions_.end() ? nullptr : &it->second;
}

void DecisionLedger::Confirm(OperationId operation, Rank rank) {
  const auto it = decisions_.find(operation);
  if (it == decisions_.end()) return;
  it->second.unconfirmed.erase(rank);
  it->second.landing.erase(rank);
  if (!it->second.unconfirmed.empty()) return;
  DecisionRecord record = std::move(it->second.record);
  decisions_.erase(it);
  record.removed = true;
  store_.WriteUntilDone({std::move(record)});
}

std::vector<OperationId> DecisionLedger::UnconfirmedBy(Rank rank) const {
  std::vector<OperationId> operations;
  for (const auto& [operation, decision] : decisions_) {
    if (decision.unconfirmed.contains(rank)) operations.push_back(operation);
  }
  return operations;
}

void DecisionLedger::Tick(const std::function<bool(Rank)>& is_away) {
  std::vector<std::pair<OperationId, Rank>> given_up;
  for (const auto& [operation, decision] : decisions_) {
    if (context_.now - decision.since < context_.options.outcome_retention) {
      continue;
    }
    for (const Rank rank : decision.unconfirmed) {
      if (is_away(rank)) given_up.emplace_back(operation, rank);
    }
  }
  for (const auto& [operation, rank] : given_up) Confirm(operation, rank);
}

}  // namespace sluice::coordinator
