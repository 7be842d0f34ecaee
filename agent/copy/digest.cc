#include "agent/copy/digest.h"

#include "agent/copy/copy_kernels.h"
#include "agent/copy/digest_keys.h"

namespace sluice::agent {

Digest DigestRun(const void* bytes, int64_t logical_offset, int64_t n) {
  Digest digest;
  if (n <= 0) return digest;
  copy_internal::DigestRows(copy_internal::BestIsa(),
                            {.src = static_cast<const std::byte*>(bytes),
                             .count = 1,
                             .bytes = n,
                             .logical = logical_offset},
                            digest);
  return digest;
}

uint64_t MixTensor(absl::string_view name) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : name) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  }
  return digest_internal::SplitMix64(hash) | 1;
}

}  // namespace sluice::agent
