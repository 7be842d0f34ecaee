#include "coordinator/core/operation.h"

#include <algorithm>
#include <utility>

namespace sluice::coordinator {
namespace {

bool Share(const std::vector<PlacementName>& a,
           const std::vector<PlacementName>& b) {
  return std::any_of(a.begin(), a.end(), [&b](const PlacementName& name) {
    return std::find(b.begin(), b.end(), name) != b.end();
  });
}

}  // namespace

bool Claims::ConflictsWith(const Claims& other) const {
  if (Share(writes, other.writes) || Share(writes, other.reads) ||
      Share(reads, other.writes)) {
    return true;
  }
  const bool fewer = entries.size() < other.entries.size();
  const absl::flat_hash_set<Catalog::EntryId>& few =
      fewer ? entries : other.entries;
  const absl::flat_hash_set<Catalog::EntryId>& many =
      fewer ? other.entries : entries;
  return std::any_of(few.begin(), few.end(), [&many](Catalog::EntryId id) {
    return many.contains(id);
  });
}

Participant* Operation::Find(Rank rank) {
  return const_cast<Participant*>(std::as_const(*this).Find(rank));
}

const Participant* Operation::Find(Rank rank) const {
  const auto it =
      std::lower_bound(participants.begin(), participants.end(), rank,
                       [](const Participant& p, Rank r) { return p.rank < r; });
  if (it == participants.end() || it->rank != rank) return nullptr;
  return &*it;
}

int64_t Operation::BytesDone() const {
  int64_t bytes = 0;
  for (const Participant& participant : participants) {
    bytes += participant.bytes_done;
  }
  return bytes;
}

void Operation::Enter(OperationPhase next, absl::Time now) {
  phases.emplace_back(phase, absl::ToDoubleSeconds(now - phase_since));
  phase = next;
  phase_since = now;
  phase_deadline = deadline;
}

absl::string_view PhaseName(OperationPhase phase) {
  switch (phase) {
    case OperationPhase::kQueued:
      return "queued";
    case OperationPhase::kPlanning:
      return "planning";
    case OperationPhase::kPreparing:
      return "preparing";
    case OperationPhase::kExecuting:
      return "executing";
    case OperationPhase::kCommitting:
      return "committing";
    case OperationPhase::kAborting:
      return "aborting";
    case OperationPhase::kDone:
      return "done";
    case OperationPhase::kFailed:
      return "failed";
    case OperationPhase::kUnspecified:
      break;
  }
  return "unspecified";
}

absl::string_view KindName(OperationKind kind) {
  switch (kind) {
    case OperationKind::kLoad:
      return "load";
    case OperationKind::kSync:
      return "sync";
    case OperationKind::kRedistribute:
      return "redistribute";
    case OperationKind::kVerify:
      return "verify";
    case OperationKind::kUnspecified:
      break;
  }
  return "operation";
}

}  // namespace sluice::coordinator
