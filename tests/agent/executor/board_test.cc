#include "agent/executor/board.h"

#include <thread>

#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;

TEST_CASE("what an agent writes on its board, a peer reads", "[board]") {
  REQUIRE_OK_AND_ASSIGN(const auto ours, Board::Create(OperationId(7), 3));
  REQUIRE_OK_AND_ASSIGN(const auto theirs,
                        Board::Open(ours->memory(), OperationId(7), 3));
  CHECK(theirs->available(2) == 0);
  CHECK_FALSE(theirs->digest(2).has_value());
  CHECK_FALSE(theirs->failed().has_value());
  const uint32_t before = theirs->epoch();
  ours->SetAvailable(2, int64_t{1} << 40);
  ours->PublishDigest(2, {5, 6});
  CHECK(theirs->epoch() != before);
  CHECK(theirs->available(2) == int64_t{1} << 40);
  CHECK(theirs->digest(2) == Digest{5, 6});
  CHECK_FALSE(theirs->digest(1).has_value());
  ours->Fail(Rank(4));
  ours->Fail(Rank(5));  // the first cause counts
  CHECK(theirs->failed() == Rank(4));
}

TEST_CASE("a board of another operation or plan is refused", "[board]") {
  REQUIRE_OK_AND_ASSIGN(const auto ours, Board::Create(OperationId(7), 3));
  CHECK_THAT(Board::Open(ours->memory(), OperationId(8), 3),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK_THAT(Board::Open(ours->memory(), OperationId(7), 2),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK_THAT(Board::Open(ours->memory(), OperationId(7), 3000),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK_THAT(Board::Open(nullptr, OperationId(7), 3),
             StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_CASE("a waiting peer is woken by each kind of change", "[board]") {
  REQUIRE_OK_AND_ASSIGN(const auto ours, Board::Create(OperationId(7), 3));
  REQUIRE_OK_AND_ASSIGN(const auto theirs,
                        Board::Open(ours->memory(), OperationId(7), 3));
  int64_t seen = 0;
  std::thread puller([&] {
    while (seen < 1000) {
      const uint32_t epoch = theirs->epoch();
      const int64_t available = theirs->available(1);
      if (available > seen) {
        seen = available;
      } else {
        theirs->Wait(epoch, absl::Seconds(20));
      }
    }
    while (!theirs->failed().has_value()) {
      const uint32_t epoch = theirs->epoch();
      if (!theirs->failed()) theirs->Wait(epoch, absl::Seconds(20));
    }
  });
  for (int64_t i = 1; i <= 1000; ++i) ours->SetAvailable(1, i);
  ours->Fail(kNoRank);
  puller.join();
  CHECK(seen == 1000);
}

}  // namespace
}  // namespace sluice::agent
