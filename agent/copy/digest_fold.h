#ifndef SLUICE_AGENT_COPY_DIGEST_FOLD_H_
#define SLUICE_AGENT_COPY_DIGEST_FOLD_H_

// Shared by the portable and the vector kernels: the scalar parts of the
// digest.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "agent/copy/digest_keys.h"
#include "common/digest_value.h"

namespace sluice::agent::digest_internal {

inline uint32_t LoadWord(const std::byte* bytes) {
  uint32_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

// The sums of one block before they are multiplied by its mix.
struct BlockSums {
  uint64_t block = 0;
  uint64_t sum[kLanes] = {0, 0};

  void AddWord(int64_t index, uint64_t word) {
    sum[0] += word * kKeys.lane[0][index];
    sum[1] += word * kKeys.lane[1][index];
  }

  // Adds the `n` bytes of one word that start at byte `offset` of the block;
  // they do not reach into the next word.
  void AddPartOfWord(int64_t offset, const std::byte* bytes, int64_t n) {
    uint64_t word = 0;
    for (int64_t i = 0; i < n; ++i) {
      word |= static_cast<uint64_t>(bytes[i]) << (8 * ((offset + i) & 3));
    }
    AddWord(offset >> 2, word);
  }

  // Adds `n` bytes that start at byte `offset` of the block and stay inside it.
  void AddBytes(int64_t offset, const std::byte* p, int64_t n) {
    if ((offset & 3) != 0) {
      const int64_t head = std::min<int64_t>(n, 4 - (offset & 3));
      AddPartOfWord(offset, p, head);
      offset += head, p += head, n -= head;
    }
    for (; n >= 4; offset += 4, p += 4, n -= 4)
      AddWord(offset >> 2, LoadWord(p));
    if (n > 0) AddPartOfWord(offset, p, n);
  }

  void FoldInto(Digest& digest) {
    digest.lane0 += sum[0] * BlockMix(0, block);
    digest.lane1 += sum[1] * BlockMix(1, block);
    sum[0] = sum[1] = 0;
  }
};

}  // namespace sluice::agent::digest_internal

#endif  // SLUICE_AGENT_COPY_DIGEST_FOLD_H_
