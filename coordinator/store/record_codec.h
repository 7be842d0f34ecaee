#ifndef SLUICE_COORDINATOR_STORE_RECORD_CODEC_H_
#define SLUICE_COORDINATOR_STORE_RECORD_CODEC_H_

// What the core makes durable (coordinator/core/records.h) <-> what the store
// keeps: kind, key, and a message of proto/sluice/v1/state.proto.

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "coordinator/core/records.h"
#include "coordinator/store/state_store.h"

namespace sluice::coordinator {

// A record that says "removed" becomes an erasure of its key.
StoreWrite EncodeRecord(const Record& record);

// Errors: DATA_LOSS - the value does not parse or is malformed (kind and key
// are named); FAILED_PRECONDITION - a kind that this version does not know.
absl::StatusOr<Record> DecodeRecord(const StoredRecord& stored);

// Decodes all, ordered so that what a record names comes before it: cluster,
// agents, models, placements, versions, decisions, outcomes; by key in a kind.
// Errors: as DecodeRecord.
absl::StatusOr<std::vector<Record>> DecodeRecords(
    absl::Span<const StoredRecord> stored);

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_STORE_RECORD_CODEC_H_
