#ifndef SLUICE_AGENT_CORE_SAMPLE_ARENA_H_
#define SLUICE_AGENT_CORE_SAMPLE_ARENA_H_

// Room for sample tensors in segments of the agent's memory: first fit, 64-byte
// aligned; a tensor larger than a segment gets its own; an empty segment is
// given back.

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "agent/core/buffer_table.h"
#include "agent/core/outbox.h"
#include "common/ids.h"

namespace sluice::agent {

inline constexpr int64_t kSampleAlignment = 64;

// Where one tensor lies; `bytes` is rounded up to the alignment.
struct SampleBlock {
  BufferId buffer;
  int64_t offset_bytes = 0;
  int64_t bytes = 0;
};
// The block goes back to its arena when the last owner lets go.
using SampleBlockPtr = std::shared_ptr<const SampleBlock>;

// Not thread-safe; outlives its blocks.
//
// Invariant: blocks and free ranges of a segment tile it; neighbouring free
// ranges are one.
class SampleArena {
 public:
  SampleArena(int64_t segment_bytes, BufferTable* buffers)
      : segment_bytes_(segment_bytes), buffers_(buffers) {}
  SampleArena(const SampleArena&) = delete;
  SampleArena& operator=(const SampleArena&) = delete;

  // Makes one block per size, all or none, and orders the segments that are
  // missing; they are usable when their buffers are ready.
  // Errors: RESOURCE_EXHAUSTED - says what is needed and what is free.
  absl::StatusOr<std::vector<SampleBlockPtr>> Allocate(
      absl::Span<const int64_t> sizes, Outbox& out);

  int64_t num_segments() const {
    return static_cast<int64_t>(segments_.size());
  }

 private:
  struct Segment {
    int64_t bytes = 0;
    std::map<int64_t, int64_t> free;  // offset -> size
  };

  // Cuts a block out of an existing segment; nullptr-like (bytes 0) if none.
  SampleBlock TakeFrom(Segment& segment, BufferId id, int64_t bytes);
  SampleBlock FirstFit(int64_t bytes);
  // Out of segments that are being made, or of another one; no bytes if there
  // is no memory for it.
  SampleBlock FromNew(int64_t bytes, std::map<BufferId, Segment>& made);
  void Free(const SampleBlock& block);

  const int64_t segment_bytes_;
  BufferTable* const buffers_;
  std::map<BufferId, Segment> segments_;
};

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_CORE_SAMPLE_ARENA_H_
