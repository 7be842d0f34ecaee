#ifndef SLUICE_AGENT_CUDA_PIECE_RANGES_H_
#define SLUICE_AGENT_CUDA_PIECE_RANGES_H_

// What the GPU's movers ask of lists of ranges.

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "agent/device/mapped_memory.h"
#include "agent/executor/piece_mover.h"
#include "agent/executor_interface.h"
#include "common/status_macros.h"

namespace sluice::agent::cuda {

inline bool OnDevice(const BoundPlace& place) {
  return place.memory->space() == MemorySpace::kDevice;
}

// Bytes from the first range's start to the last one's end in what is packed.
// Requires at least one range.
inline int64_t PackedBytes(absl::Span<const PieceRange> ranges) {
  return ranges.back().packed + ranges.back().hi - ranges.back().lo -
         ranges.front().packed;
}

// Calls visit(ranges, kind) for the longest runs of ranges that are of one
// kind; ends with the first error.
template <typename KindOf, typename Visit>
absl::Status ForRuns(absl::Span<const PieceRange> ranges, const KindOf& kind_of,
                     const Visit& visit) {
  for (size_t at = 0; at < ranges.size();) {
    const auto kind = kind_of(ranges[at]);
    size_t end = at + 1;
    while (end < ranges.size() && kind_of(ranges[end]) == kind) ++end;
    SLUICE_RETURN_IF_ERROR(visit(ranges.subspan(at, end - at), kind));
    at = end;
  }
  return absl::OkStatus();
}

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_PIECE_RANGES_H_
