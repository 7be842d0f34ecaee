#include "agent/core/operation_table.h"

#include <utility>

#include "common/check.h"

namespace sluice::agent {
namespace {

constexpr size_t kMaxCommitted = 1024;

}  // namespace

std::ostream& operator<<(std::ostream& os, OperationState state) {
  switch (state) {
    case OperationState::kWaiting:
      return os << "waiting";
    case OperationState::kBinding:
      return os << "binding";
    case OperationState::kPrepared:
      return os << "prepared";
    case OperationState::kRunning:
      return os << "running";
    case OperationState::kStopping:
      return os << "stopping";
    case OperationState::kVoted:
      return os << "voted";
    case OperationState::kFailed:
      return os << "failed";
    case OperationState::kStopped:
      return os << "stopped";
  }
  return os << "state " << static_cast<int>(state);
}

Operation* OperationTable::Find(OperationId id) {
  const auto it = operations_.find(id);
  return it == operations_.end() ? nullptr : &it->second;
}

Operation& OperationTable::Insert(Operation operation) {
  const OperationId id = operation.id;
  const auto [it, inserted] = operations_.emplace(id, std::move(operation));
  SLUICE_CHECK(inserted) << "operation " << id;
  return it->second;
}

void OperationTable::Erase(OperationId id) { operations_.erase(id); }

void OperationTable::NoteCommitted(OperationId id) {
  committed_.insert(id);
  if (committed_.size() > kMaxCommitted) committed_.erase(committed_.begin());
}

}  // namespace sluice::agent
