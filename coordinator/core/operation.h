#ifndef SLUICE_COORDINATOR_CORE_OPERATION_H_
#define SLUICE_COORDINATOR_CORE_OPERATION_H_

// One operation on its way: what was asked, who takes part, and how far each
// of them is.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/command.h"
#include "common/dtype.h"
#include "coordinator/core/catalog.h"
#include "coordinator/core/digest_compare.h"
#include "coordinator/core/events.h"
#include "coordinator/core/operation_types.h"
#include "coordinator/core/plan_cache.h"
#include "coordinator/planner/casts.h"

namespace sluice::coordinator {

// An agent that takes part. What it has done only grows:
// told -> prepared -> voted -> confirmed, or told -> stopped.
struct Participant {
  Rank rank = kNoRank;
  std::shared_ptr<const PlanPart> part;  // null: loads, verifications
  int64_t staging_bytes = 0;
  // A command that binds it to the operation was sent.
  bool told = false;
  // Prepare, Load or ReadDigests was answered OK.
  bool prepared = false;
  bool voted = false;
  bool confirmed = false;
  // Nothing of the operation touches its memory: aborted, or it refused.
  bool stopped = false;
  // It was lost, or cannot be reached: nobody waits for it.
  bool gone = false;
  // Its part was sent though its digest was known before.
  bool part_sent_again = false;
  int64_t bytes_done = 0;
  PartStats stats;
  // Loads into lent memory: what it held before.
  CopyInventory before;
  // Verifications: what it read.
  std::map<std::pair<TensorIndex, Box>, Digest> digests;
};

// A placement by name: model, placement.
using PlacementName = std::pair<std::string, std::string>;

// What an operation needs for itself. Readers of one placement run together; a
// writer runs alone. Samples that are moved are moved by one operation.
struct Claims {
  std::vector<PlacementName> reads, writes;
  absl::flat_hash_set<Catalog::EntryId> entries;

  bool ConflictsWith(const Claims& other) const;
};

using OperationRequest =
    std::variant<LoadRequest, SyncRequest, RedistributeRequest, VerifyRequest>;

// Phases: queued -> planning -> preparing -> executing -> committing -> done;
// before the decision is ordered each may go to aborting -> failed.
struct Operation {
  OperationId id;
  OperationKind kind = OperationKind::kUnspecified;
  OperationRequest request;
  std::string description;  // "policy: trainer -> rollout"
  OperationOptions options;
  bool plan_only = false;
  Claims claims;
  std::vector<CallId> callers;

  // --- where it stands
  OperationPhase phase = OperationPhase::kQueued;
  absl::Time started;
  absl::Time admitted;  // when it left the queue
  absl::Time phase_since;
  std::vector<std::pair<OperationPhase, double>> phases;
  absl::Time deadline;        // of the whole
  absl::Time phase_deadline;  // of the phase
  absl::Time last_progress;
  // How long it may wait in the queue for a writer to end.
  absl::Time wait_until;
  // Planned; waits for staging memory.
  bool waits_for_staging = false;
  // The decision is being written: too late to abort.
  bool deciding = false;
  bool decided = false;
  bool finished = false;  // answered; removed at the end of the step
  absl::Status failure;   // why it aborts
  int32_t replans = 0;

  // --- what it does
  Version version;
  std::vector<PlacementRef> writes;    // destinations, by placement index
  PlacementRef source;                 // syncs
  Pattern pattern = Pattern::kDirect;  // syncs
  std::vector<Cast> casts;             // of a sync that is only planned
  std::vector<std::string> warnings;   // as well
  std::string plan_key;
  int32_t plan_ranks = 0;  // ranks that existed when it was planned
  std::shared_ptr<const CachedPlan> plan;
  bool plan_reused = false;
  // Whose messages move by NCCL; taken from MessageGroups, and given back.
  MessageGroup group;
  std::vector<Participant> participants;  // by rank
  int64_t bytes_total = 0;
  int64_t bytes_told = 0;  // in the last update
  // Verifications: the placements to read, one after the other, and what was
  // read of those before the one that `participants` read.
  std::vector<PlacementRef> to_verify;
  std::vector<DType> compared_types;  // of ReadDigestsCommand
  std::vector<PlacementDigests> verified;
  int64_t digests_compared = 0;

  // Returns nullptr if the rank takes no part.
  Participant* Find(Rank rank);
  const Participant* Find(Rank rank) const;
  int64_t BytesDone() const;
  // Goes to the next phase and notes the time of the one left.
  void Enter(OperationPhase next, absl::Time now);
  // Whether nobody can call it back any more.
  bool Committed() const { return deciding || decided; }
};

// "preparing", "executing", ...
absl::string_view PhaseName(OperationPhase phase);
// "load", "sync", ...
absl::string_view KindName(OperationKind kind);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_OPERATION_H_
