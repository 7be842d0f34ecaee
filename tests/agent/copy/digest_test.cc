#include "agent/copy/digest.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "agent/copy/copy_kernels.h"

namespace sluice::agent {
namespace {

using copy_internal::BestIsa;
using copy_internal::Isa;
using copy_internal::Rows;

using Bytes = std::vector<std::byte>;

Bytes RandomBytes(std::mt19937_64& random, size_t n) {
  Bytes bytes(n);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

uint64_t SplitMix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// The definition, one byte at a time, with constants made here.
Digest Naive(const std::byte* bytes, int64_t logical, int64_t n) {
  const uint64_t seeds[2] = {0x536c75696365206bull, 0x6579732f6c616e65ull};
  uint64_t lanes[2] = {0, 0};
  for (int64_t i = 0; i < n; ++i) {
    const auto offset = static_cast<uint64_t>(logical + i);
    const uint64_t word = offset / 4;
    const uint64_t part = static_cast<uint64_t>(bytes[i]) << (8 * (offset % 4));
    for (int lane = 0; lane < 2; ++lane) {
      uint64_t key = SplitMix(seeds[lane] + word % 1024) >> 32;
      if (key == 0) key = 1;
      const uint64_t mix = SplitMix(~seeds[lane] + word / 1024) | 1;
      lanes[lane] += part * key * mix;
    }
  }
  return {lanes[0], lanes[1]};
}

// Both implementations where the CPU has both.
std::vector<Isa> Isas() {
  std::vector<Isa> isas = {Isa::kPortable};
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
    if (isa <= BestIsa()) isas.push_back(isa);
  }
  return isas;
}

TEST_CASE("a digest is what its definition says, at any offset and length",
          "[digest]") {
  std::mt19937_64 random(Catch::rngSeed() + 1);
  const Bytes bytes = RandomBytes(random, 70000);
  for (int round = 0; round < 400; ++round) {
    const int64_t shift = static_cast<int64_t>(random() % 64);
    const int64_t limit = round % 4 == 0 ? 60000 : 200;
    const int64_t n = static_cast<int64_t>(random() % limit);
    // Offsets beyond 2^32 bytes, too: words are counted in 64 bits.
    const int64_t logical =
        static_cast<int64_t>(random() % (round % 3 == 0 ? 1ull << 40 : 9000));
    CAPTURE(shift, n, logical);
    const Digest expected = Naive(bytes.data() + shift, logical, n);
    for (const Isa isa : Isas()) {
      Digest digest{1, 2};  // what is there stays
      DigestRows(isa,
                 {.src = bytes.data() + shift,
                  .count = 1,
                  .bytes = n,
                  .logical = logical},
                 digest);
      REQUIRE(digest == Digest{expected.lane0 + 1, expected.lane1 + 2});
    }
    REQUIRE(DigestRun(bytes.data() + shift, logical, n) == expected);
  }
}

TEST_CASE("digests add over random cuts, in any order", "[digest]") {
  std::mt19937_64 random(Catch::rngSeed() + 2);
  const Bytes bytes = RandomBytes(random, 30000);
  const auto n = static_cast<int64_t>(bytes.size());
  const int64_t logical = 4097;
  const Digest whole = DigestRun(bytes.data(), logical, n);
  for (int round = 0; round < 50; ++round) {
    std::vector<int64_t> cuts = {0, n};
    for (int i = 0; i < 12; ++i) {
      cuts.push_back(static_cast<int64_t>(random() % bytes.size()));
    }
    std::sort(cuts.begin(), cuts.end());
    std::vector<size_t> order(cuts.size() - 1);
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    Digest sum;
    for (const size_t i : order) {
      sum += DigestRun(bytes.data() + cuts[i], logical + cuts[i],
                       cuts[i + 1] - cuts[i]);
    }
    REQUIRE(sum == whole);
  }
}

TEST_CASE("any changed bit, swapped words or moved bytes change a digest",
          "[digest]") {
  std::mt19937_64 random(Catch::rngSeed() + 3);
  Bytes bytes = RandomBytes(random, 20000);
  const Digest before = DigestRun(bytes.data(), 0, 20000);
  for (int round = 0; round < 200; ++round) {
    const size_t at = random() % bytes.size();
    const auto bit = static_cast<std::byte>(1u << (random() % 8));
    bytes[at] ^= bit;
    const Digest changed = DigestRun(bytes.data(), 0, 20000);
    CHECK(changed.lane0 != before.lane0);
    CHECK(changed.lane1 != before.lane1);
    bytes[at] ^= bit;
  }
  // Words one block apart share a key; their mixes differ.
  for (int i = 0; i < 4; ++i) std::swap(bytes[8 + i], bytes[8 + 4096 + i]);
  CHECK_FALSE(DigestRun(bytes.data(), 0, 20000) == before);
  for (int i = 0; i < 4; ++i) std::swap(bytes[8 + i], bytes[8 + 4096 + i]);
  CHECK_FALSE(DigestRun(bytes.data(), 4, 20000) == before);
}

TEST_CASE("strided rows are digested, copied, and both at once", "[digest]") {
  std::mt19937_64 random(Catch::rngSeed() + 4);
  const Bytes source = RandomBytes(random, 60000);
  for (int round = 0; round < 300; ++round) {
    const int64_t bytes = 1 + static_cast<int64_t>(random() % 700);
    const int64_t count = 1 + static_cast<int64_t>(random() % 20);
    const int64_t gap = static_cast<int64_t>(random() % 300);
    Rows rows{.src = source.data() + random() % 64,
              .count = count,
              .bytes = bytes,
              .src_stride = bytes + gap,
              .dst_stride = bytes + static_cast<int64_t>(random() % 70),
              .logical = static_cast<int64_t>(random() % 5000),
              .logical_stride = bytes + static_cast<int64_t>(random() % 10000)};
    const size_t shift = random() % 64;
    const size_t room =
        shift + static_cast<size_t>(count * (rows.dst_stride + 1)) + 64;
    Bytes expected(room, std::byte{0xEE});
    Digest sum;
    for (int64_t i = 0; i < count; ++i) {
      const std::byte* row = rows.src + i * rows.src_stride;
      std::memcpy(expected.data() + shift + i * rows.dst_stride, row,
                  static_cast<size_t>(bytes));
      sum += Naive(row, rows.logical + i * rows.logical_stride, bytes);
    }
    CAPTURE(round, bytes, count, gap, shift);
    for (const Isa isa : Isas()) {
      for (const bool streaming : {false, true}) {
        Bytes copied(room, std::byte{0xEE});
        rows.dst = copied.data() + shift;
        CopyRows(isa, rows, streaming);
        REQUIRE(copied == expected);
        std::fill(copied.begin(), copied.end(), std::byte{0xEE});
        Digest fused;
        CopyAndDigestRows(isa, rows, streaming, fused);
        REQUIRE(copied == expected);
        REQUIRE(fused == sum);
      }
      Digest read;
      DigestRows(isa, rows, read);
      REQUIRE(read == sum);
    }
  }
}

TEST_CASE("tensors' factors are odd and differ by name", "[digest]") {
  CHECK(MixTensor("model.norm.weight") % 2 == 1);
  CHECK(MixTensor("a") != MixTensor("b"));
  CHECK(MixTensor("") % 2 == 1);
}

}  // namespace
}  // namespace sluice::agent
