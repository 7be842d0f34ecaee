#include "agent/cuda/box_list.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/cuda/descriptors.h"
#include "agent/cuda/kernel_math.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent::cuda {
namespace {

using testing::StatusIs;

constexpr uint64_t kBase = uint64_t{1} << 40;

// A row-major matrix of `row` bytes, copied to a dense place.
BoxPlace Rows(const std::vector<int64_t>& extents,
              const std::vector<int64_t>& src, const std::vector<int64_t>& dst,
              uint64_t from = kBase, uint64_t to = 2 * kBase) {
  return {.extents = extents,
          .src = from,
          .src_strides = src,
          .dst = to,
          .dst_strides = dst,
          .logical = 0,
          .logical_strides = {}};
}

TEST_CASE("division by multiplication is division", "[cuda]") {
  std::mt19937_64 random(Catch::rngSeed() + 1);
  for (int round = 0; round < 20000; ++round) {
    const auto bits = static_cast<int>(random() % 31);
    const auto divisor =
        static_cast<uint32_t>(1 + random() % ((uint64_t{1} << bits)));
    if (divisor >= 1u << 31) continue;
    const FastDivider d = MakeDivider(divisor);
    for (const uint64_t near : {random(), random() % divisor * divisor}) {
      for (uint64_t n = near; n < near + 2; ++n) {
        const auto value = static_cast<uint32_t>(n % (1u << 31));
        CAPTURE(value, divisor);
        REQUIRE(Divide(value, d) == value / divisor);
      }
    }
    REQUIRE(Divide((1u << 31) - 1, d) == ((1u << 31) - 1) / divisor);
  }
}

TEST_CASE("what is contiguous on both sides is one run", "[cuda]") {
  BoxList list = BoxList::ForCopies();
  REQUIRE_OK(list.Add(Rows({3, 5, 64}, {640, 128, 2}, {640, 128, 2}), 2));
  REQUIRE(list.boxes().size() == 1);
  const BoxDescriptor& box = list.boxes()[0];
  CHECK(box.num_loops == 0);
  CHECK(box.unit_log2 == 4);
  CHECK(box.units == 3 * 5 * 128 / 16);
  CHECK(box.run.divisor == box.units);
}

TEST_CASE("unaligned ends of rows leave the middle to wide accesses",
          "[cuda]") {
  BoxList list = BoxList::ForCopies();
  // 4 rows of 1000 bytes, 1024 apart, from byte 6 on both sides.
  REQUIRE_OK(list.Add(
      Rows({4, 500}, {1024, 2}, {2048, 2}, kBase + 6, 2 * kBase + 6), 2));
  REQUIRE(list.boxes().size() == 3);
  CHECK(list.boxes()[0].src == kBase + 6);
  CHECK(list.boxes()[0].units == 4 * 5);  // 10 bytes in twos
  CHECK(list.boxes()[1].src == kBase + 16);
  CHECK(list.boxes()[1].unit_log2 == 4);
  CHECK(list.boxes()[1].units == 4 * 61);  // 976 bytes
  CHECK(list.boxes()[2].src == kBase + 6 + 986);
  CHECK(list.boxes()[2].units == 4 * 7);  // 14 bytes
}

TEST_CASE("addresses that differ modulo 16 limit the access", "[cuda]") {
  BoxList list = BoxList::ForCopies();
  REQUIRE_OK(list.Add(Rows({4096}, {2}, {2}, kBase, 2 * kBase + 4), 2));
  REQUIRE(list.boxes().size() == 1);
  CHECK(list.boxes()[0].unit_log2 == 2);
}

TEST_CASE("boxes beyond a descriptor's size are cut without gaps", "[cuda]") {
  BoxList list = BoxList::ForCopies();
  const int64_t bytes = (int64_t{100} << 30) + 7;  // 100 GiB
  REQUIRE_OK(list.Add(Rows({bytes}, {1}, {1}), 1));
  std::vector<std::pair<uint64_t, uint64_t>> pieces;
  for (const BoxDescriptor& box : list.boxes()) {
    CHECK(box.units <= kMaxBoxUnits);
    CHECK(box.dst - box.src == kBase);
    pieces.emplace_back(box.src, uint64_t{box.units} << box.unit_log2);
  }
  std::sort(pieces.begin(), pieces.end());
  uint64_t at = kBase;
  for (const auto& [start, size] : pieces) {
    CHECK(start == at);
    at += size;
  }
  CHECK(at == kBase + static_cast<uint64_t>(bytes));
}

TEST_CASE("more loops than a descriptor has become more boxes", "[cuda]") {
  BoxList list = BoxList::ForCopies();
  // Seven dimensions of 2, each with a gap.
  std::vector<int64_t> extents(7, 2);
  std::vector<int64_t> src(7);
  std::vector<int64_t> dst(7);
  int64_t stride = 4;
  for (size_t d = 7; d-- > 0;) {
    src[d] = stride * 2;
    dst[d] = stride;
    stride *= 3;
  }
  REQUIRE_OK(list.Add(Rows(extents, src, dst), 4));
  uint64_t units = 0;
  for (const BoxDescriptor& box : list.boxes()) {
    CHECK(box.num_loops <= kMaxLoops);
    units += uint64_t{box.units} << box.unit_log2;
  }
  CHECK(units == 128 * 4);
}

TEST_CASE("blocks get equal shares of the bytes, however boxes differ",
          "[cuda]") {
  BoxList list = BoxList::ForCopies();
  REQUIRE_OK(list.Add(Rows({1 << 24}, {4}, {4}), 4));
  for (int i = 0; i < 100; ++i) {
    REQUIRE_OK(list.Add(Rows({4096}, {4}, {4}), 4));
  }
  const BoxBatch batch = list.Batch(list.boxes().data());
  constexpr uint32_t kBlocks = 37;
  uint32_t least = list.tiles();
  uint32_t most = 0;
  uint32_t all = 0;
  for (uint32_t block = 0; block < kBlocks; ++block) {
    uint32_t tiles = 0;
    for (TileCursor tile(batch, {block, kBlocks, 0}); !tile.Done();
         tile.Next()) {
      ++tiles;
    }
    least = std::min(least, tiles);
    most = std::max(most, tiles);
    all += tiles;
  }
  CHECK(all == list.tiles());
  CHECK(most - least <= 1);
}

TEST_CASE("bad boxes are refused, empty ones add nothing", "[cuda]") {
  BoxList list = BoxList::ForCopies();
  const auto invalid = StatusIs(absl::StatusCode::kInvalidArgument);
  CHECK_OK(list.Add(Rows({4, 0}, {8, 2}, {8, 2}), 2));
  CHECK(list.boxes().empty());
  CHECK_THAT(list.Add(Rows({4}, {2, 2}, {2}), 2), invalid);
  CHECK_THAT(list.Add(Rows({-1}, {2}, {2}), 2), invalid);
  CHECK_THAT(list.Add(Rows({4}, {2}, {2}), 3), invalid);
  CHECK_THAT(list.Add(Rows({4}, {2}, {4}), 2, 4), invalid);
  CHECK_THAT(list.Add(Rows({4}, {2}, {2}, kBase + 1), 2), invalid);
  CHECK_THAT(list.Add(Rows({4}, {3}, {2}), 2), invalid);
  CHECK_THAT(list.Add(Rows({1ll << 40, 1ll << 40}, {2, 2}, {2, 2}), 2),
             invalid);
  CHECK(list.boxes().empty());
  CHECK(list.tiles() == 0);
}

}  // namespace
}  // namespace sluice::agent::cuda
