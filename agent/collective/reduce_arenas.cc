#include "agent/collective/reduce_arenas.h"

#include <utility>

#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Shards begin at cache lines.
constexpr int64_t kAlignment = 64;

}  // namespace

bool ReduceArenas::CanTake(DType dtype) const {
  const auto it = types_.find(dtype);
  return it == types_.end() || !it->second.free.empty() ||
         it->second.num_made < kMaxPerType;
}

absl::StatusOr<std::unique_ptr<ReduceArena>> ReduceArenas::Take(
    DType dtype, int64_t shard_elements) {
  OfType& type = types_[dtype];
  if (!type.free.empty()) {
    std::unique_ptr<ReduceArena> arena = std::move(type.free.back());
    type.free.pop_back();
    return arena;
  }
  const int64_t shard_bytes =
      (shard_elements * ByteSize(dtype) + kAlignment - 1) / kAlignment *
      kAlignment;
  SLUICE_ASSIGN_OR_RETURN(
      std::shared_ptr<MappedMemory> memory,
      device_.Allocate((members_ + 1) * shard_bytes, label_));
  ++type.num_made;
  auto arena = std::make_unique<ReduceArena>(std::move(memory), dtype, members_,
                                             shard_bytes);
  bytes_ += arena->bytes();
  return arena;
}

void ReduceArenas::Give(std::unique_ptr<ReduceArena> arena) {
  types_[arena->dtype()].free.push_back(std::move(arena));
}

void ReduceArenas::Clear() {
  for (auto& [dtype, type] : types_) {
    type.num_made -= static_cast<int>(type.free.size());
    for (const auto& arena : type.free) bytes_ -= arena->bytes();
    type.free.clear();
  }
}

}  // namespace sluice::agent
