#include "agent/buffer_registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/core/effects.h"

namespace sluice::agent {

BufferId BufferRegistry::NewLentId() {
  MutexLock lock(mutex_);
  return BufferId(kHostBufferBit | next_lent_++);
}

absl::Status BufferRegistry::Add(BufferId id,
                                 std::shared_ptr<MappedMemory> memory,
                                 absl::string_view label) {
  MutexLock lock(mutex_);
  const auto [it, inserted] = buffers_.try_emplace(id);
  if (!inserted) {
    return absl::AlreadyExistsError(
        absl::StrCat("buffer ", id.value(), " is \"", it->second.label,
                     "\" already, not \"", label, "\""));
  }
  it->second = {std::move(memory), std::string(label)};
  return absl::OkStatus();
}

std::shared_ptr<MappedMemory> BufferRegistry::Remove(BufferId id) {
  MutexLock lock(mutex_);
  const auto it = buffers_.find(id);
  if (it == buffers_.end()) return nullptr;
  std::shared_ptr<MappedMemory> memory = std::move(it->second.memory);
  buffers_.erase(it);
  return memory;
}

absl::StatusOr<std::shared_ptr<MappedMemory>> BufferRegistry::Get(
    BufferId id) const {
  MutexLock lock(mutex_);
  const auto it = buffers_.find(id);
  if (it == buffers_.end()) {
    return absl::NotFoundError(
        absl::StrCat("buffer ", id.value(), ": unknown or freed"));
  }
  return it->second.memory;
}

int64_t BufferRegistry::total_bytes() const {
  MutexLock lock(mutex_);
  int64_t total = 0;
  for (const auto& [id, entry] : buffers_) total += entry.memory->size();
  return total;
}

}  // namespace sluice::agent
