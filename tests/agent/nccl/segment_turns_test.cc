#include "agent/nccl/segment_turns.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;

absl::Status Go() { return absl::OkStatus(); }

TEST_CASE("threads take turns in the order of their numbers", "[nccl]") {
  constexpr uint64_t kCount = 12;
  SegmentTurns turns;
  for (uint64_t n = 1; n <= kCount; ++n) {
    turns.Enter(OperationId(n));
    turns.Propose(OperationId(n), /*may_move=*/true);
  }
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
      const OperationId operation(n);
      if (n % 4 == 0) return turns.Leave(operation);
      turns.Agree(operation, n, /*moves=*/true);
      statuses[n] = turns.Await(operation, Go);
      {
        MutexLock lock(mutex);
        ran.push_back(n);
      }
      turns.End(operation);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : statuses) CHECK_OK(status);
  CHECK(ran == std::vector<uint64_t>{1, 2, 3, 5, 6, 7, 9, 10, 11});
}

TEST_CASE("what breaks ends the wait; who leaves is not waited for", "[nccl]") {
  SegmentTurns turns;
  for (const uint64_t n : {1, 2}) turns.Enter(OperationId(n));
  turns.Propose(OperationId(1), /*may_move=*/true);
  CHECK(turns.Propose(OperationId(2), /*may_move=*/true).shared);
  turns.Agree(OperationId(2), 2, /*moves=*/true);
  CHECK_THAT(
      turns.Await(OperationId(2), [] { return absl::AbortedError("broken"); }),
      StatusIs(absl::StatusCode::kAborted, "broken"));
  turns.Leave(OperationId(1));
  CHECK_OK(turns.Await(OperationId(2), Go));
  turns.End(OperationId(2));
  const auto next = turns.Propose(OperationId(2), /*may_move=*/true);
  CHECK(next.count == 2);
  CHECK_FALSE(next.shared);
}

}  // namespace
}  // namespace sluice::agent
