#include "agent/source_table.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace sluice::agent {

void SourceTable::Add(const ExecutionRequest& request) {
  ByPuller made;
  for (const BoundTransfer& transfer : request.transfers) {
    if (transfer.source != request.self ||
        transfer.link != LinkClass::kSameNode) {
      continue;
    }
    std::shared_ptr<Sources>& sources = made[transfer.destination];
    if (sources == nullptr) sources = std::make_shared<Sources>();
    Source& source = sources->emplace_back();
    source.id = transfer.id;
    for (const BoundPiece& piece : transfer.pieces) {
      if (!piece.source.has_value()) continue;
      source.pieces.pieces.push_back(*piece.source);
      source.pieces.boxes.push_back(piece.box);
    }
  }
  MutexLock lock(mutex_);
  operations_[request.operation] = std::move(made);
}

void SourceTable::Remove(OperationId operation) {
  ByPuller removed;  // unmaps outside the lock
  MutexLock lock(mutex_);
  const auto it = operations_.find(operation);
  if (it == operations_.end()) return;
  removed = std::move(it->second);
  operations_.erase(it);
}

absl::StatusOr<std::shared_ptr<const SourceTable::Sources>> SourceTable::Find(
    OperationId operation, Rank puller) const {
  MutexLock lock(mutex_);
  const auto it = operations_.find(operation);
  if (it == operations_.end()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "operation ", operation.value(), " is not prepared on this agent"));
  }
  const auto sources = it->second.find(puller);
  if (sources == it->second.end()) return std::make_shared<const Sources>();
  return std::shared_ptr<const Sources>(sources->second);
}

}  // namespace sluice::agent
