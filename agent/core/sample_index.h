#ifndef SLUICE_AGENT_CORE_SAMPLE_INDEX_H_
#define SLUICE_AGENT_CORE_SAMPLE_INDEX_H_

// The sample tensors of this agent: those held (visible) by (sample, key), and
// reservations of workers on their way to be.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/core/effects.h"
#include "agent/core/events.h"
#include "agent/core/sample_arena.h"
#include "common/command.h"
#include "common/plan.h"

namespace sluice::agent {

// One tensor and its memory; operations that read it share it, so that it
// outlives a clear.
struct SampleTensor {
  SampleEntry entry;
  SampleBlockPtr block;
  bool owned = false;

  SamplePlace Place() const {
    return {entry, block->buffer, block->offset_bytes};
  }
};
using SampleTensorPtr = std::shared_ptr<const SampleTensor>;

// "sample s1, key k".
std::string SampleName(absl::string_view sample_id, absl::string_view key);

struct Reservation {
  SessionId session;
  std::vector<SampleTensorPtr> tensors;
  // Whether the host has made all segments and the worker knows the places.
  bool placed = false;
  // Not 0: committed by the worker; the coordinator's ack is awaited.
  uint64_t event_id = 0;
  // The call that waits: for the places or for the ack.
  std::optional<CallId> call;
};

// Not thread-safe. Invariant: a (sample, key) is held once, and reserved only
// while it is not held.
class SampleIndex {
 public:
  // Null if not held. What a worker committed counts as held for operations
  // (the coordinator may use it before its ack arrives here).
  SampleTensorPtr Find(const std::string& sample_id, const std::string& key,
                       bool with_committed) const;
  // Keys held of a sample, in order.
  std::vector<std::string> KeysOf(const std::string& sample_id) const;
  // Makes it visible; what is held already stays.
  void Insert(SampleTensorPtr tensor);
  // Makes (sample, keys; empty: all) invisible at once.
  void Clear(const std::string& sample_id,
             const std::vector<std::string>& keys);

  // Errors: INVALID_ARGUMENT - no entry, one twice or malformed; ALREADY_EXISTS
  // - held or reserved (named).
  absl::Status CheckNew(const std::vector<SampleEntry>& entries) const;
  ReservationId Reserve(Reservation reservation);
  // Null if unknown.
  Reservation* FindReservation(ReservationId id);
  // Ends a reservation; its tensors are held if `keep`, else dropped.
  void EndReservation(ReservationId id, bool keep);
  // Whether it was kept lately, so that a repeated commit is answered.
  bool WasKept(ReservationId id) const { return kept_.count(id) > 0; }
  std::map<ReservationId, Reservation>& reservations() { return reservations_; }

  // Everything the coordinator knows or is about to know: held samples, and
  // those that a worker committed. (A coordinator that has seen an event does
  // not look at it again; what it then missed in the inventory it would
  // forget.)
  std::vector<SampleTensorPtr> All() const;

 private:
  using Key = std::pair<std::string, std::string>;  // sample id, key

  uint64_t next_id_ = 1;
  std::map<Key, SampleTensorPtr> held_;
  std::map<Key, ReservationId> reserved_;
  std::map<ReservationId, Reservation> reservations_;
  std::set<ReservationId> kept_;  // bounded
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_SAMPLE_INDEX_H_
