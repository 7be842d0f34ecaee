#ifndef SLUICE_COMMON_DIGEST_VALUE_H_
#define SLUICE_COMMON_DIGEST_VALUE_H_

// The value of a digest: two 64-bit lanes that add over disjoint boxes. How it
// is computed over bytes is agent/copy/digest.h.

#include <cstdint>
#include <ostream>

namespace sluice {

struct Digest {
  uint64_t lane0 = 0;
  uint64_t lane1 = 0;

  Digest& operator+=(const Digest& other) {
    lane0 += other.lane0;
    lane1 += other.lane1;
    return *this;
  }
  // Scales both lanes, for sums over several tensors (see MixTensor).
  Digest Scaled(uint64_t factor) const {
    return {lane0 * factor, lane1 * factor};
  }
  friend bool operator==(const Digest&, const Digest&) = default;
  friend std::ostream& operator<<(std::ostream& os, const Digest& d) {
    return os << std::hex << d.lane0 << ":" << d.lane1 << std::dec;
  }
};

}  // namespace sluice

#endif  // SLUICE_COMMON_DIGEST_VALUE_H_
