#ifndef SLUICE_AGENT_COLLECTIVE_REDUCE_ARENAS_H_
#define SLUICE_AGENT_COLLECTIVE_REDUCE_ARENAS_H_

// The memory of a reduce group's buckets.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "agent/collective/collective.h"
#include "agent/device/device.h"
#include "agent/device/mapped_memory.h"
#include "common/dtype.h"

namespace sluice::agent {

// A bucket's memory: a shard for each member, then one for the result.
class ReduceArena {
 public:
  ReduceArena(std::shared_ptr<MappedMemory> memory, DType dtype, int members,
              int64_t shard_bytes)
      : memory_(std::move(memory)),
        dtype_(dtype),
        members_(members),
        shard_bytes_(shard_bytes) {}

  DType dtype() const { return dtype_; }
  int64_t bytes() const { return (members_ + 1) * shard_bytes_; }
  CollectiveRange Input(int member, int64_t elements) const {
    return {memory_, member * shard_bytes_, elements};
  }
  CollectiveRange Output(int64_t elements) const {
    return {memory_, members_ * shard_bytes_, elements};
  }

 private:
  std::shared_ptr<MappedMemory> memory_;
  DType dtype_;
  int members_;
  int64_t shard_bytes_;
};

// Not thread-safe.
class ReduceArenas {
 public:
  // Of one element type: one that fills while two are on their way.
  static constexpr int kMaxPerType = 3;

  // `device` outlives it.
  ReduceArenas(Device& device, int members, std::string label)
      : device_(device), members_(members), label_(std::move(label)) {}

  // Whether Take would give one.
  bool CanTake(DType dtype) const;
  // An arena whose shards have room for as many elements; always the same
  // number for a type. Requires CanTake. Errors: RESOURCE_EXHAUSTED.
  absl::StatusOr<std::unique_ptr<ReduceArena>> Take(DType dtype,
                                                    int64_t shard_elements);
  void Give(std::unique_ptr<ReduceArena> arena);
  // Gives back the memory of those not taken.
  void Clear();
  // Of all, taken or not.
  int64_t bytes() const { return bytes_; }

 private:
  struct OfType {
    int num_made = 0;
    std::vector<std::unique_ptr<ReduceArena>> free;
  };

  Device& device_;
  const int members_;
  const std::string label_;
  int64_t bytes_ = 0;
  absl::flat_hash_map<DType, OfType> types_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COLLECTIVE_REDUCE_ARENAS_H_
