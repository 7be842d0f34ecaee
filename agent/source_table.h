#ifndef SLUICE_AGENT_SOURCE_TABLE_H_
#define SLUICE_AGENT_SOURCE_TABLE_H_

// What peers of this node may pull: where the pieces of this agent's transfers
// lie, by operation and puller, from prepare to release.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "agent/executor_interface.h"
#include "common/ids.h"
#include "common/mutex.h"

namespace sluice::agent {

// Thread-safe. Holds the mappings of what it lists.
class SourceTable {
 public:
  // A transfer to one puller.
  struct Source {
    uint32_t id = 0;
    PeerTransferSource pieces;
  };
  using Sources = std::vector<Source>;

  SourceTable() = default;
  SourceTable(const SourceTable&) = delete;
  SourceTable& operator=(const SourceTable&) = delete;

  // Lists the same-node transfers that `request.self` is the source of.
  void Add(const ExecutionRequest& request);
  void Remove(OperationId operation);

  // Returns what `puller` may pull; empty if nothing is planned from here to
  // it. Errors: FAILED_PRECONDITION - not prepared here, or released.
  absl::StatusOr<std::shared_ptr<const Sources>> Find(OperationId operation,
                                                      Rank puller) const;

 private:
  using ByPuller = absl::flat_hash_map<Rank, std::shared_ptr<Sources>>;

  mutable Mutex mutex_;
  absl::flat_hash_map<OperationId, ByPuller> operations_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_SOURCE_TABLE_H_
