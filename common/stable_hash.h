#ifndef SLUICE_COMMON_STABLE_HASH_H_
#define SLUICE_COMMON_STABLE_HASH_H_

// A hash that is the same in every process and release, for what is stored:
// FNV-1a, 64 bits. Neither a MAC nor a check against malice.

#include <cstdint>

#include "absl/strings/string_view.h"

namespace sluice {

inline constexpr uint64_t kStableHashSeed = 0xcbf29ce484222325u;

// Adds the bytes to `hash`. Does not add their number: two parts that are
// hashed one after the other need a mark between them.
constexpr uint64_t StableHash(absl::string_view bytes,
                              uint64_t hash = kStableHashSeed) {
  for (const char c : bytes) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return hash;
}

}  // namespace sluice

#endif  // SLUICE_COMMON_STABLE_HASH_H_
