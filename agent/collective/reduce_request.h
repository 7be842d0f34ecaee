#ifndef SLUICE_AGENT_COLLECTIVE_REDUCE_REQUEST_H_
#define SLUICE_AGENT_COLLECTIVE_REDUCE_REQUEST_H_

// What a worker asks of a reduce group, and how it is answered: see
// proto/sluice/v1/reduce_group.proto.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/collective/collective.h"
#include "agent/device/mapped_memory.h"
#include "common/dtype.h"
#include "common/reduce_scatter_buckets.h"

namespace sluice::agent {

// A contiguous tensor in memory that the worker lent under a number.
struct ReduceTensor {
  uint64_t memory = 0;
  int64_t offset_bytes = 0;
  std::vector<int64_t> shape;
  DType dtype = DType::kUnspecified;
};

struct ReduceScatterRequest {
  std::vector<ReduceTensor> inputs;  // one for each member
  ReduceTensor output;
};

// A request whose tensors were found and agree.
struct ResolvedReduce {
  DType dtype = DType::kUnspecified;
  int64_t numel = 0;
  std::vector<int64_t> shape;
  std::vector<CollectiveRange> inputs;
  CollectiveRange output;
};

// Finds memory by its number; null if there is none.
using FindMemory =
    std::function<std::shared_ptr<MappedMemory>(uint64_t memory)>;

// Errors: INVALID_ARGUMENT - as many inputs as members, of one shape and a type
// that can be added, in known memory, the output as an input and overlapping at
// most input `self`, wholly: else says which tensor, what was expected and
// found.
absl::StatusOr<ResolvedReduce> ResolveReduce(
    const ReduceScatterRequest& request, int members, int self,
    const FindMemory& find);

struct ReduceAnswer {
  uint64_t id = 0;  // the request's
  absl::Status status;
  // Of a reduce-scatter that went.
  bool reduced = false;
  ReductionReason reason = ReductionReason::kImmediate;
  uint64_t sent_by = 0;     // request that made it go
  uint64_t collective = 0;  // 1 for the group's first; 0 for none
  int64_t shard_elements = 0;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_REDUCE_REQUEST_H_
