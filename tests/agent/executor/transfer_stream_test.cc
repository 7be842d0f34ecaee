#include "agent/executor/transfer_stream.h"

#include <catch2/catch.hpp>
#include <vector>

#include "agent/executor/staging_buffers.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

constexpr int64_t kKiB = 1024;
constexpr int64_t kMiB = 1024 * kKiB;

// Segments of these sizes, one after the other.
std::vector<StreamSegment> Segments(const std::vector<int64_t>& sizes) {
  std::vector<StreamSegment> segments;
  int64_t at = 0;
  for (const int64_t size : sizes) {
    StreamSegment segment;
    segment.lo = at;
    segment.hi = at += size;
    segments.push_back(segment);
  }
  return segments;
}

std::vector<int64_t> Sizes(const std::vector<StreamMessage>& messages) {
  std::vector<int64_t> sizes;
  int64_t at = 0;
  for (const StreamMessage& message : messages) {
    CHECK(message.lo == at);  // no hole
    at = message.hi;
    sizes.push_back(message.bytes());
  }
  return sizes;
}

TEST_CASE("large segments are cut on their own, small ones share messages",
          "[executor]") {
  const std::vector<int64_t> sizes = {5 * kMiB / 2, 200 * kKiB, 200 * kKiB,
                                      200 * kKiB,   255 * kKiB, 255 * kKiB,
                                      256 * kKiB,   100 * kKiB};
  CHECK(Sizes(CutMessages(Segments(sizes))) ==
        std::vector<int64_t>{kMiB, kMiB, kMiB / 2,
                             // 3 * 200 + 255 = 855; another 255 would be more
                             // than 1 MiB.
                             855 * kKiB, 255 * kKiB,
                             // Large, and not joined by the next.
                             256 * kKiB, 100 * kKiB});
  CHECK(CutMessages({}).empty());
}

TEST_CASE("a stream's segments do not depend on how a side cuts its pieces",
          "[executor]") {
  const auto piece = [](int64_t lo, int64_t hi) {
    BoundPiece p;
    p.tensor = "w";
    p.dtype = DType::kBF16;
    p.shape = {10, 8};
    p.box = Box({{lo, hi}, {0, 8}});
    return p;
  };
  BoundTransfer one, cut;
  one.bytes = cut.bytes = 6 * 8 * 2;
  one.pieces = {piece(2, 8)};
  cut.pieces = {piece(2, 3), piece(3, 7), piece(7, 8)};
  // Neither rank is this agent: no place is needed.
  REQUIRE_OK_AND_ASSIGN(const auto a, TransferStream::Create(one, Rank(5)));
  REQUIRE_OK_AND_ASSIGN(const auto b, TransferStream::Create(cut, Rank(5)));
  REQUIRE(a.segments().size() == 1);
  REQUIRE(b.segments().size() == 1);
  CHECK(a.segments()[0].box == b.segments()[0].box);
  CHECK(b.segments()[0].hi == 96);
  cut.bytes = 95;
  CHECK_FALSE(TransferStream::Create(cut, Rank(5)).ok());
}

TEST_CASE("the front message always gets its buffer in the end", "[executor]") {
  // Room for three buckets; one is kept free for the front message.
  StagingShare share(3 * kMiB, kMiB);
  CHECK(share.Suffices());
  CHECK(share.Take(kMiB, /*front=*/false));
  CHECK(share.Take(kMiB, /*front=*/false));
  CHECK_FALSE(share.Take(kMiB, /*front=*/false));
  CHECK(share.Take(kMiB, /*front=*/true));
  CHECK_FALSE(share.Take(kMiB, /*front=*/true));
  share.Release(kMiB);
  CHECK(share.Take(kMiB, /*front=*/true));
  CHECK(share.used() == 3 * kMiB);
  CHECK_FALSE(StagingShare(kMiB, kMiB).Suffices());
}

TEST_CASE("staging buffers are reused and their number is bounded",
          "[executor]") {
  StagingBuffers buffers(/*keep_bytes=*/kMiB);
  const StagingBuffer first = buffers.Get(kMiB);
  const StagingBuffer second = buffers.Get(700 * kKiB);
  CHECK(second.bytes == kMiB);
  CHECK(first.data != second.data);
  buffers.Put(first);
  buffers.Put(second);  // one too many: freed
  CHECK(buffers.Get(kMiB).data == first.data);
  buffers.Put(first);
  const StagingBuffer small = buffers.Get(100);
  CHECK(small.bytes == 64 * kKiB);
  buffers.Put(small);
}

}  // namespace
}  // namespace sluice::agent
