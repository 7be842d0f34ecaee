#ifndef SLUICE_COORDINATOR_STORE_STATE_STORE_H_
#define SLUICE_COORDINATOR_STORE_STATE_STORE_H_

// Durable state of the coordinator: key-value records of a few kinds, written
// in atomic batches, read whole at start. Values are opaque bytes (serialised
// protos made by the host from the core's records, see
// coordinator/core/records.h).

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sluice::coordinator {

struct StoredRecord {
  std::string kind;  // "agent", "model", "placement", "decision", "outcome"...
  std::string key;
  std::string value;
};

struct StoreWrite {
  std::string kind;
  std::string key;
  std::string value;
  bool erase = false;
};

class StateStore {
 public:
  virtual ~StateStore() = default;
  // Writes a batch atomically and durably (synced to disk before it returns).
  // Errors: RESOURCE_EXHAUSTED - disk full; INTERNAL - the disk failed.
  virtual absl::Status Write(const std::vector<StoreWrite>& batch) = 0;
  // Reads everything. Errors: DATA_LOSS - damaged, with where.
  virtual absl::StatusOr<std::vector<StoredRecord>> ReadAll() = 0;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_STORE_STATE_STORE_H_
