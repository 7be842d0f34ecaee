#ifndef SLUICE_AGENT_BUFFER_REGISTRY_H_
#define SLUICE_AGENT_BUFFER_REGISTRY_H_

// The agent's buffers by id: its arenas and the memory its workers lent.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/device/mapped_memory.h"
#include "common/ids.h"
#include "common/mutex.h"

namespace sluice::agent {

// Thread-safe.
//
// Invariants: an id is never used twice; memory lives at least as long as it is
// here, and as long as anybody who got it holds it.
class BufferRegistry {
 public:
  BufferRegistry() = default;
  BufferRegistry(const BufferRegistry&) = delete;
  BufferRegistry& operator=(const BufferRegistry&) = delete;

  // Returns an id for memory that a worker lends. Ids of arenas are the core's,
  // which counts from 1; these have kHostBufferBit set.
  BufferId NewLentId();

  // Errors: ALREADY_EXISTS - the id is used.
  absl::Status Add(BufferId id, std::shared_ptr<MappedMemory> memory,
                   absl::string_view label);
  // Forgets a buffer and returns its memory, which goes where the caller lets
  // go of it: that may take long. Null for an unknown id.
  std::shared_ptr<MappedMemory> Remove(BufferId id);
  // Errors: NOT_FOUND.
  absl::StatusOr<std::shared_ptr<MappedMemory>> Get(BufferId id) const;

  // Bytes of all buffers here.
  int64_t total_bytes() const;

 private:
  struct Entry {
    std::shared_ptr<MappedMemory> memory;
    std::string label;
  };

  mutable Mutex mutex_;
  absl::flat_hash_map<BufferId, Entry> buffers_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_lent_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_BUFFER_REGISTRY_H_
