#ifndef SLUICE_AGENT_COPY_COPY_KERNELS_H_
#define SLUICE_AGENT_COPY_COPY_KERNELS_H_

// The inner loops of box_copy and digest: equally spaced rows of equal length,
// copied, digested, or both in one pass. Three implementations, portable, AVX2
// and AVX-512 (which copies as AVX2 does), chosen when the program runs; they
// give the same bytes and digests.

#include <cstddef>
#include <cstdint>

#include "common/digest_value.h"

namespace sluice::agent::copy_internal {

// In order: a CPU that has one has those before it.
enum class Isa { kPortable, kAvx2, kAvx512 };

// Returns the fastest implementation this CPU has.
Isa BestIsa();

// `count` rows of `bytes` bytes; row i starts `i * stride` after the first.
// Strides may be negative; rows of source and destination never overlap.
struct Rows {
  const std::byte* src = nullptr;
  std::byte* dst = nullptr;  // unused where only digested
  int64_t count = 0;
  int64_t bytes = 0;
  int64_t src_stride = 0;
  int64_t dst_stride = 0;
  // Logical byte offset of row 0 and distance of rows; used by digests only.
  int64_t logical = 0;
  int64_t logical_stride = 0;
};

// Copies. `streaming` stores past the caches (for what is not read next); the
// stores are ordered before any later one of this thread when it returns.
void CopyRows(Isa isa, const Rows& rows, bool streaming);

// Copies and adds the digest of the rows to `digest`, in one pass.
void CopyAndDigestRows(Isa isa, const Rows& rows, bool streaming,
                       Digest& digest);

// Adds the digest of the source rows to `digest`.
void DigestRows(Isa isa, const Rows& rows, Digest& digest);

}  // namespace sluice::agent::copy_internal

#endif  // SLUICE_AGENT_COPY_COPY_KERNELS_H_
