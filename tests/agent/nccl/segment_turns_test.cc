#include "agent/nccl/segment_turns.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/command.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;

constexpr Epoch kEpoch{2};
const SystemClock kClock;

SegmentTurn Turn(uint64_t number, uint64_t predecessor) {
  return {kEpoch, SegmentNumber{number, predecessor}};
}

absl::Status Await(SegmentTurns& turns, const SegmentTurn& turn,
                   absl::Duration patience = absl::InfiniteDuration()) {
  return turns.Await(turn, patience, [] { return absl::OkStatus(); });
}

TEST_CASE("threads take turns in the order of their segments", "[nccl]") {
  constexpr uint64_t kCount = 12;
  SegmentTurns turns(kClock);
  turns.Raise(kEpoch);
  std::vector<uint64_t> order;
  for (uint64_t n = 1; n <= kCount; ++n) order.push_back(n);
  std::mt19937_64 random(Catch::rngSeed());
  std::shuffle(order.begin(), order.end(), random);
  Mutex mutex;
  std::vector<uint64_t> ran;
  std::vector<absl::Status> statuses(kCount + 1);
  std::vector<std::thread> threads;
  for (const uint64_t n : order) {
    threads.emplace_back([&, n] {
      const SegmentTurn turn = Turn(n, n - 1);
      if (n % 4 == 0) {
        turns.Void(turn);
        return;
      }
      absl::Status& status = statuses[n];
      status = turns.Admit(turn);
      if (status.ok()) status = Await(turns, turn);
      {
        MutexLock lock(mutex);
        ran.push_back(n);
      }
      turns.Leave(turn);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : statuses) CHECK_OK(status);
  CHECK(ran == std::vector<uint64_t>{1, 2, 3, 5, 6, 7, 9, 10, 11});
}

TEST_CASE("a turn that cannot come ends the wait, with the reason", "[nccl]") {
  SegmentTurns turns(kClock);
  turns.Raise(kEpoch);
  REQUIRE_OK(turns.Admit(Turn(5, 3)));
  CHECK_THAT(Await(turns, Turn(5, 3), absl::Milliseconds(1)),
             StatusIs(absl::StatusCode::kDeadlineExceeded, "segment 3"));
  CHECK_THAT(turns.Await(Turn(5, 3), absl::InfiniteDuration(),
                         [] { return absl::AbortedError("broken"); }),
             StatusIs(absl::StatusCode::kAborted, "broken"));
  // It leaves without its turn; those after it go on once 3 has been heard of.
  turns.Leave(Turn(5, 3));
  REQUIRE_OK(turns.Admit(Turn(6, 5)));
  turns.Void(Turn(3, 0));
  CHECK_OK(Await(turns, Turn(6, 5)));
}

TEST_CASE("a later epoch begins when what ran in the old one has left",
          "[nccl]") {
  SegmentTurns turns(kClock);
  turns.Raise(kEpoch);
  REQUIRE_OK(turns.Admit(Turn(1, 0)));
  REQUIRE_OK(Await(turns, Turn(1, 0)));
  const SegmentTurn next{Epoch(3), SegmentNumber{1, 0}};
  turns.Raise(Epoch(3));
  CHECK_THAT(turns.Admit(Turn(2, 1)), StatusIs(absl::StatusCode::kAborted));
  REQUIRE_OK(turns.Admit(next));
  int asked = 0;
  CHECK_THAT(turns.Await(next, absl::InfiniteDuration(),
                         [&] {
                           return ++asked < 3 ? absl::OkStatus()
                                              : absl::CancelledError("waits");
                         }),
             StatusIs(absl::StatusCode::kCancelled));
  turns.Leave(Turn(1, 0));
  CHECK_OK(Await(turns, next));
}

}  // namespace
}  // namespace sluice::agent
