#ifndef SLUICE_AGENT_COPY_BOX_CAST_H_
#define SLUICE_AGENT_COPY_BOX_CAST_H_

// The side of a box copy whose memory holds another element type than the
// sequence: elements are cast between where they lie and dense stretches of the
// sequence, which is in the wire's type.

#include <cstddef>
#include <cstdint>

#include "agent/copy/box_loops.h"
#include "agent/copy/cast_kernels.h"
#include "common/digest_value.h"

namespace sluice::agent::copy_internal {

struct CastSide {
  CastFunction to_wire = nullptr;
  CastFunction from_wire = nullptr;
  int64_t element_bytes = 0;  // in the memory
  int64_t wire_bytes = 0;     // of an element of the sequence
  int64_t offset = 0;         // of the box's first element in the memory
  int64_t LoopDim::*space = nullptr;
  Loops memory;  // joint in `space`, in bytes of the memory
  // Joint in logical offsets, in bytes of the sequence; and the first one.
  Loops logical;
  int64_t logical_offset = 0;
};

// How much of a sequence is cast before something else is done with it: it
// stays in the nearest cache. A multiple of all elements' sizes.
inline constexpr int64_t kCastBlockBytes = 16 << 10;

// Calls visit(at, end) for the blocks of the bytes [lo, hi) of a sequence, cut
// between elements.
template <typename Visit>
void ForCastBlocks(int64_t lo, int64_t hi, Visit visit) {
  while (lo < hi) {
    const int64_t next = (lo / kCastBlockBytes + 1) * kCastBlockBytes;
    const int64_t end = next < hi ? next : hi;
    visit(lo, end);
    lo = end;
  }
}

// Casts bytes [lo, hi) of the sequence from `memory` into `packed`.
void PackCast(const CastSide& side, int64_t lo, int64_t hi, const void* memory,
              void* packed, Digest* digest);

// Casts hi - lo bytes of `packed` to where [lo, hi) of the sequence lies. Of an
// element that is not wholly in the range, the other bytes stay what the
// memory's value gives when it is cast back.
void UnpackCast(const CastSide& side, int64_t lo, int64_t hi,
                const void* packed, void* memory, Digest* digest);

// Adds the digest of bytes [lo, hi) of the sequence as `memory` gives them.
void DigestCast(const CastSide& side, int64_t lo, int64_t hi,
                const void* memory, Digest& digest);

}  // namespace sluice::agent::copy_internal

#endif  // SLUICE_AGENT_COPY_BOX_CAST_H_
