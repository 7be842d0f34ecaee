#ifndef SLUICE_AGENT_COPY_DIGEST_H_
#define SLUICE_AGENT_COPY_DIGEST_H_

// The digest of tensor bytes: an integrity check that does not depend on
// layout. A logical tensor is read, by flat row-major byte offset, as
// little-endian 32-bit words w; lane l of the digest is
//
//   sum over w of  word[w] * key[l][w mod 1024] * mix[l](w div 1024)  mod 2^64
//
// A byte b at logical offset o adds (b << 8*(o mod 4)) as its share of the
// word, so digests add over disjoint sets of bytes: any two layouts of one
// tensor, and any cuts, in any order, give the same sum. The constants are in
// digest_keys.h. It finds faults, not adversaries: it is no MAC.

#include <cstdint>

#include "absl/strings/string_view.h"
#include "common/digest_value.h"

namespace sluice::agent {

// Returns the digest of `n` bytes that are the logical bytes
// [logical_offset, logical_offset + n) of their tensor.
Digest DigestRun(const void* bytes, int64_t logical_offset, int64_t n);

// Returns the odd factor by which a tensor's digest is scaled before digests of
// several tensors are summed, so that swapped tensors do not cancel: FNV-1a of
// the name, through SplitMix64, with the lowest bit set.
uint64_t MixTensor(absl::string_view name);

}  // namespace sluice::agent

#endif  // SLUICE_AGENT_COPY_DIGEST_H_
