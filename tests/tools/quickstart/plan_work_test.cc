#include "tools/quickstart/plan_work.h"

#include <catch2/catch.hpp>
#include <vector>

#include "tests/support/status_matchers.h"

namespace sluice::quickstart {
namespace {

using testing::StatusIs;

Box Box2(int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
  return Box({{r0, r1}, {c0, c1}});
}

// Rank 0 holds all of an 8x6 bf16 tensor; rank 1 takes it, in a parameter of
// the same shape (two ranks, one tensor).
struct Example {
  ModelSpec model{"m", {{"t", DType::kBF16, {8, 6}}}, {}};
  std::vector<RankEnds> ranks{2};

  Example() {
    RankLayout whole;
    whole.params.push_back({"p", DType::kBF16, {8, 6}, 0});
    whole.views.push_back({TensorIndex(0), Box2(0, 8, 0, 6), 0, 0, {6, 1}});
    ranks[0].source = whole;
    ranks[1].destination = whole;
  }

  Transfer Move(uint32_t id, const Box& box) const {
    Transfer transfer;
    transfer.id = id;
    transfer.kind = TransferKind::kSendRecv;
    transfer.source = Rank(0);
    transfer.destination = Rank(1);
    transfer.link = LinkClass::kBetweenNodes;
    transfer.bytes = box.num_elements() * 2;
    transfer.params = {box, {{0, 1, 1}}};
    return transfer;
  }
};

TEST_CASE("whole rows are contiguous, parts of rows are packed and unpacked",
          "[tools][quickstart]") {
  const Example example;
  const auto rows = SyncWork(example.model, {example.Move(0, Box2(2, 4, 0, 6))},
                             example.ranks);
  REQUIRE_OK(rows);
  CHECK(rows->bytes == LinkBytes{0, 0, 24});  // 2 rows of 6 of 2 bytes
  CHECK(rows->pack_bytes == 0);
  CHECK(rows->unpack_bytes == 0);

  const auto columns = SyncWork(
      example.model, {example.Move(0, Box2(0, 8, 0, 3))}, example.ranks);
  REQUIRE_OK(columns);
  CHECK(columns->pack_bytes == 48);  // 8 rows of 3 of 2 bytes
  CHECK(columns->unpack_bytes == 48);
}

TEST_CASE("what one rank gives twice is digested once at the source",
          "[tools][quickstart]") {
  Example example;
  const auto work = SyncWork(
      example.model,
      {example.Move(0, Box2(0, 4, 0, 6)), example.Move(1, Box2(2, 6, 0, 6))},
      example.ranks);
  REQUIRE_OK(work);
  CHECK(work->digest_destination_bytes == 96);  // twice 4 rows of 12 bytes
  CHECK(work->digest_source_bytes == 72);       // rows 0 to 6
}

TEST_CASE("what a rank passes on it read as it arrived",
          "[tools][quickstart]") {
  Example example;
  example.ranks.resize(3);
  example.ranks[2].destination = example.ranks[1].destination;
  Transfer relay = example.Move(1, Box2(0, 4, 0, 6));
  relay.source = Rank(1);
  relay.destination = Rank(2);
  relay.link = LinkClass::kSameNode;
  relay.reads_after = 0;
  const auto work = SyncWork(
      example.model, {example.Move(0, Box2(0, 4, 0, 6)), relay}, example.ranks);
  REQUIRE_OK(work);
  CHECK(work->digest_source_bytes == 48);
  CHECK(work->digest_destination_bytes == 96);
  CHECK(work->bytes == LinkBytes{0, 48, 48});
}

TEST_CASE("a plan that does not fit is refused", "[tools][quickstart]") {
  Example example;
  Transfer stranger = example.Move(0, Box2(0, 4, 0, 6));
  stranger.destination = Rank(2);
  CHECK_THAT(SyncWork(example.model, {stranger}, example.ranks),
             StatusIs(absl::StatusCode::kInvalidArgument));
  example.ranks[1].destination.views[0].box = Box2(0, 3, 0, 6);
  CHECK_THAT(SyncWork(example.model, {example.Move(0, Box2(0, 4, 0, 6))},
                      example.ranks),
             StatusIs(absl::StatusCode::kInvalidArgument, "18 of 24"));
}

}  // namespace
}  // namespace sluice::quickstart
