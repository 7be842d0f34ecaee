#ifndef SLUICE_AGENT_COPY_DIGEST_KEYS_H_
#define SLUICE_AGENT_COPY_DIGEST_KEYS_H_

// The constants of the digest: what any other implementation (a GPU kernel, an
// independent checker) must reproduce bit for bit. All come from splitmix64:
//
//   SplitMix64(x): x += 0x9e3779b97f4a7c15;
//                  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
//                  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
//                  return x ^ (x >> 31);
//   key[lane][i]  = high 32 bits of SplitMix64(kLaneSeed[lane] + i), or 1 where
//                   they are zero;                               0 <= i < 1024
//   mix[lane](b)  = SplitMix64(~kLaneSeed[lane] + b) | 1.

#include <cstdint>

namespace sluice::agent::digest_internal {

inline constexpr int kLanes = 2;
// A block is what shares one factor mix[lane](block): 1024 words of 4 bytes.
inline constexpr int64_t kBlockWords = 1024;
inline constexpr int64_t kBlockBytes = kBlockWords * 4;

inline constexpr uint64_t kLaneSeed[kLanes] = {0x536c75696365206bull,
                                               0x6579732f6c616e65ull};

constexpr uint64_t SplitMix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// The keys, with one vector's worth of zeros behind each lane so that a vector
// loaded one word late (for the odd words) stays inside.
struct KeyTable {
  alignas(64) uint32_t lane[kLanes][kBlockWords + 16];
};

constexpr KeyTable MakeKeyTable() {
  KeyTable table{};
  for (int lane = 0; lane < kLanes; ++lane) {
    for (uint64_t i = 0; i < kBlockWords; ++i) {
      const auto key =
          static_cast<uint32_t>(SplitMix64(kLaneSeed[lane] + i) >> 32);
      table.lane[lane][i] = key == 0 ? 1 : key;
    }
  }
  return table;
}

inline constexpr KeyTable kKeys = MakeKeyTable();

constexpr uint64_t BlockMix(int lane, uint64_t block) {
  return SplitMix64(~kLaneSeed[lane] + block) | 1;
}

}  // namespace sluice::agent::digest_internal

#endif  // SLUICE_AGENT_COPY_DIGEST_KEYS_H_
