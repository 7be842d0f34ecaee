#ifndef SLUICE_COORDINATOR_CORE_ID_ALLOCATOR_H_
#define SLUICE_COORDINATOR_CORE_ID_ALLOCATOR_H_

// Numbers that are used once in the life of a state directory: operations and
// generations of placements. They are reserved in blocks before they are used.

#include <cstdint>

#include "absl/status/statusor.h"
#include "coordinator/core/core_context.h"
#include "coordinator/core/durable_log.h"
#include "coordinator/core/records.h"

namespace sluice::coordinator {

// Invariant: last < every id given <= durable; `durable` is in the store.
class IdAllocator {
 public:
  IdAllocator(CoreContext& context, DurableLog& store)
      : context_(context), store_(store) {}

  // Starts after a block that an earlier life reserved and returns the record
  // that reserves the next one; Started() says that it is durable.
  ClusterRecord Start(OperationId reserved_before);
  void Started();

  // Errors: UNAVAILABLE - the next block is not durable yet; retry.
  absl::StatusOr<uint64_t> Next();

 private:
  ClusterRecord Reserve();

  CoreContext& context_;
  DurableLog& store_;
  uint64_t last_ = 0;      // given out
  uint64_t durable_ = 0;   // may be given out
  uint64_t reserved_ = 0;  // durable, or being written
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_ID_ALLOCATOR_H_
