#ifndef SLUICE_COORDINATOR_CORE_OUTCOMES_H_
#define SLUICE_COORDINATOR_CORE_OUTCOMES_H_

// Outcomes of mutating requests by request id, so that a retry never acts
// twice: it attaches to what still runs or gets what came out.

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/core/core_context.h"
#include "coordinator/core/durable_log.h"
#include "coordinator/core/records.h"

namespace sluice::coordinator {

// An id is unknown, running, or finished until it expires. Outcomes of requests
// that changed nothing durable may be kept in memory alone.
class Outcomes {
 public:
  struct Outcome {
    uint64_t fingerprint = 0;
    bool finished = false;
    OperationId operation;  // 0 if the request is no operation
    absl::Status status;
    OperationResult result;
    int64_t dropped = 0;
  };

  Outcomes(CoreContext& context, DurableLog& store)
      : context_(context), store_(store) {}

  // Takes over a stored outcome.
  void Restore(const OutcomeRecord& record);

  // Returns what is known of the id; nullptr if nothing is, or it is empty.
  // Errors: INVALID_ARGUMENT - the id was used for another request, or is too
  // long.
  absl::StatusOr<const Outcome*> Find(const std::string& request_id,
                                      uint64_t fingerprint) const;
  // Errors: RESOURCE_EXHAUSTED - no room for another outcome.
  absl::Status CheckRoom() const;
  // The request is being acted on.
  void Begin(const std::string& request_id, uint64_t fingerprint,
             OperationId operation);
  // Returns the record of an outcome, to be written before Finish.
  OutcomeRecord MakeRecord(const std::string& request_id,
                           const absl::Status& status,
                           const OperationResult& result = {},
                           int64_t dropped = 0) const;
  // The outcome is there. Call it when the record is durable (`durable`), or
  // without one.
  void Finish(const OutcomeRecord& record, bool durable);
  // Nothing was done: the id may be used again.
  void Forget(const std::string& request_id);
  // Drops what has expired.
  void Tick();

 private:
  struct Expiry {
    absl::Time time;
    std::string request_id;
    bool durable = false;
  };

  CoreContext& context_;
  DurableLog& store_;
  absl::flat_hash_map<std::string, Outcome> outcomes_;
  std::deque<Expiry> expiries_;  // ascending
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_OUTCOMES_H_
