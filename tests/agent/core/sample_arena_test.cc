#include "agent/core/sample_arena.h"

#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <vector>

#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using sluice::testing::StatusIs;

struct Arena {
  explicit Arena(int64_t memory, int64_t segment = 4096)
      : buffers(memory), arena(segment, &buffers) {}

  std::vector<SampleBlockPtr> Allocate(std::vector<int64_t> sizes) {
    REQUIRE_OK_AND_ASSIGN(std::vector<SampleBlockPtr> blocks,
                          arena.Allocate(sizes, out));
    for (const Effect& effect : out.Take()) {
      if (const auto* order = std::get_if<AllocateBuffer>(&effect)) {
        buffers.Answer(order->buffer, absl::OkStatus());
      }
    }
    return blocks;
  }

  Outbox out{Incarnation(1)};
  BufferTable buffers;
  SampleArena arena;
};

TEST_CASE("small tensors share a segment, large ones have their own",
          "[agent][core]") {
  Arena a(1 << 20);
  const auto blocks = a.Allocate({100, 0, 10000});
  CHECK(blocks[0]->buffer == blocks[1]->buffer);
  CHECK(blocks[0]->offset_bytes == 0);
  CHECK(blocks[1]->offset_bytes == 128);  // 100 rounded up to 64s
  CHECK(blocks[2]->buffer != blocks[0]->buffer);
  CHECK(a.buffers.used_bytes() == 4096 + 10048);  // 157 * 64
}

TEST_CASE("the first hole that fits is used again", "[agent][core]") {
  Arena a(1 << 20);
  auto blocks = a.Allocate({64, 128, 64});
  blocks[1].reset();
  CHECK(a.Allocate({192})[0]->offset_bytes == 256);
  CHECK(a.Allocate({100})[0]->offset_bytes == 64);
}

TEST_CASE("all or nothing is allocated", "[agent][core]") {
  Arena a(8192);
  const auto held = a.Allocate({64});
  const std::vector<int64_t> sizes = {64, 6000};
  CHECK_THAT(a.arena.Allocate(sizes, a.out),
             StatusIs(absl::StatusCode::kResourceExhausted, "6080"));
  CHECK(a.out.Take().empty());
  CHECK(a.Allocate({64})[0]->offset_bytes == 64);
}

TEST_CASE("an empty segment is given back", "[agent][core]") {
  Arena a(8192);
  auto blocks = a.Allocate({64, 64});
  blocks.pop_back();
  CHECK(a.arena.num_segments() == 1);
  blocks.pop_back();
  CHECK(a.arena.num_segments() == 0);
  a.buffers.FreeDoomed(a.out);
  CHECK(a.buffers.used_bytes() == 0);
  CHECK(a.out.Take().size() == 1);
}

TEST_CASE("blocks never overlap and all memory comes back", "[agent][core]") {
  const uint32_t seed = GENERATE(1u, 2u, 3u);
  CAPTURE(seed);
  std::mt19937 random(seed);
  Arena a(1 << 16);
  std::vector<SampleBlockPtr> live;
  for (int i = 0; i < 2000; ++i) {
    if (random() % 2 == 0 && !live.empty()) {
      std::swap(live[random() % live.size()], live.back());
      live.pop_back();
    } else {
      const std::vector<int64_t> sizes = {
          static_cast<int64_t>(random() % 2000),
          static_cast<int64_t>(random() % 6000)};
      auto blocks = a.arena.Allocate(sizes, a.out);
      if (!blocks.ok()) continue;
      live.insert(live.end(), blocks->begin(), blocks->end());
    }
    for (const Effect& effect : a.out.Take()) {
      if (const auto* order = std::get_if<AllocateBuffer>(&effect)) {
        a.buffers.Answer(order->buffer, absl::OkStatus());
      }
    }
    a.buffers.FreeDoomed(a.out);
    std::map<std::pair<BufferId, int64_t>, int64_t> places;
    for (const SampleBlockPtr& block : live) {
      const auto [it, inserted] = places.emplace(
          std::pair(block->buffer, block->offset_bytes), block->bytes);
      REQUIRE(inserted);
      if (it != places.begin()) {
        const auto before = std::prev(it);
        REQUIRE((before->first.first != block->buffer ||
                 before->first.second + before->second <= block->offset_bytes));
      }
    }
  }
  live.clear();
  a.buffers.FreeDoomed(a.out);
  CHECK(a.buffers.used_bytes() == 0);
}

}  // namespace
}  // namespace sluice::agent
