#include "agent/transfer_executor.h"

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/agent/executor/mini_cluster.h"
#include "tests/agent/executor/random_plan.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using testing::StatusIs;

constexpr OperationId kOperation(5);

TestTransfer Simple(uint32_t id, int source, int destination, Shape shape,
                    const std::string& name = "w") {
  TestTransfer t;
  t.id = id;
  t.source = source;
  t.destination = destination;
  const Box box = Box::Whole(shape);
  t.tensors.push_back({name, DType::kBF16, std::move(shape), box});
  return t;
}

TEST_CASE("random plans with relays arrive on one node and between nodes",
          "[executor]") {
  std::mt19937_64 random(Catch::rngSeed() + 1);
  for (int round = 0; round < 16; ++round) {
    CAPTURE(round);
    // Two nodes of two agents and a third one alone.
    MiniCluster cluster({0, 0, 1, 1, 2}, random());
    cluster.Bind(kOperation, RandomPlan(random, 5));
    for (int r = 0; r < 5; ++r) cluster.request(r).digests = round % 4 != 3;
    cluster.PrepareAll();
    cluster.StartAll();
    for (int r = 0; r < 5; ++r) {
      const TestOutcome outcome = cluster.Wait(r);
      CAPTURE(r);
      REQUIRE_OK(outcome.status);
      int64_t incoming = 0;
      int64_t compared = 0;
      for (const auto& t : cluster.request(r).transfers) {
        if (t.destination != Rank(r)) continue;
        incoming += t.bytes;
        compared += t.source != Rank(r) && t.bytes > 0 ? 1 : 0;
      }
      CHECK(outcome.stats.bytes[0] + outcome.stats.bytes[1] +
                outcome.stats.bytes[2] ==
            incoming);
      if (cluster.request(r).digests) {
        CHECK(outcome.stats.digests_compared == compared);
      }
      CHECK(outcome.stats.peak_staging_bytes <=
            cluster.request(r).staging_budget_bytes);
    }
    CHECK(cluster.CheckDestinations() == "");
    cluster.ReleaseAll();
  }
}

TEST_CASE("a small staging budget is kept, an impossible one refused",
          "[executor]") {
  // 24 MiB of columns: strided on the source's side at least.
  std::vector<TestTransfer> plan;
  for (uint32_t id = 0; id < 6; ++id) {
    TestTransfer t = Simple(id, static_cast<int>(id % 3), 3, {4096, 1024},
                            absl::StrCat("w", id));
    t.tensors[0].box.dim(1) = {0, 512};
    plan.push_back(t);
  }
  MiniCluster cluster({0, 1, 2, 3}, Catch::rngSeed());
  cluster.Bind(kOperation, plan);
  // Two buffers of 1 MiB for each direction.
  for (int r = 0; r < 4; ++r) {
    cluster.request(r).staging_budget_bytes = int64_t{4} << 20;
  }
  cluster.PrepareAll();
  cluster.StartAll();
  for (int r = 0; r < 4; ++r) {
    const TestOutcome outcome = cluster.Wait(r);
    REQUIRE_OK(outcome.status);
    CHECK(outcome.stats.peak_staging_bytes <= int64_t{4} << 20);
  }
  CHECK(cluster.CheckDestinations() == "");
  cluster.ReleaseAll();

  cluster.Bind(OperationId(6), plan);
  int refused = 0;
  for (int r = 0; r < 4; ++r) {
    cluster.request(r).staging_budget_bytes = int64_t{1} << 20;
    // A strided side of a random layout cannot do with one buffer.
    for (auto& t : cluster.request(r).transfers) {
      for (auto& piece : t.pieces) {
        if (piece.source) piece.source->strides_bytes[0] += 0;
      }
    }
    const absl::Status status = cluster.Prepare(r);
    if (status.ok()) continue;
    CHECK_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted));
    ++refused;
  }
  CAPTURE(refused);
}

TEST_CASE("source digests are computed once per content", "[executor]") {
  const std::vector<TestTransfer> plan = {Simple(0, 0, 1, {300, 1000}),
                                          Simple(1, 0, 2, {300, 1000}),
                                          Simple(2, 0, 1, {700, 100}, "v")};
  MiniCluster cluster({0, 0, 1}, /*seed=*/3);
  for (const uint64_t id : {1, 2, 3}) {
    // The same bytes each time: they follow from names.
    cluster.Bind(OperationId(id), plan);
    for (int r = 0; r < 3; ++r) {
      cluster.request(r).content_key = id == 3 ? "policy@3" : "policy@2";
    }
    cluster.PrepareAll();
    cluster.StartAll();
    for (int r = 0; r < 3; ++r) REQUIRE_OK(cluster.Wait(r).status);
    // w is needed by two transfers and digested once: 600,000 + 140,000 bytes.
    CHECK(cluster.Wait(0).stats.digest_bytes == (id == 2 ? 0 : 740000));
    CHECK(cluster.CheckDestinations() == "");
    cluster.ReleaseAll();
    if (id == 2) cluster.executor(0).ForgetContent("policy@2");
  }
}

TEST_CASE("bytes that are not what was published are found", "[executor]") {
  for (const int destination : {1, 2}) {  // same node, another node
    CAPTURE(destination);
    const std::vector<TestTransfer> plan = {
        Simple(0, 0, destination, {2000, 1000})};
    MiniCluster cluster({0, 0, 1}, /*seed=*/4);
    for (const uint64_t id : {1, 2}) {
      cluster.Bind(OperationId(id), plan);
      for (int r = 0; r < 3; ++r) cluster.request(r).content_key = "policy@1";
      if (id == 2) cluster.CorruptSource(0);
      cluster.PrepareAll();
      cluster.StartAll();
      const TestOutcome outcome = cluster.Wait(destination);
      if (id == 1) {
        REQUIRE_OK(outcome.status);
      } else {
        CHECK_THAT(outcome.status,
                   StatusIs(absl::StatusCode::kDataLoss, "\"w\""));
        CHECK(outcome.peer == Rank(0));
      }
      cluster.ReleaseAll();
    }
  }
}

TEST_CASE("a peer that does not move is named when the floor is reached",
          "[executor]") {
  // Receiving, sending, and waiting for a relay's or a digest's word.
  struct Case {
    int source, destination, waiting;
  };
  for (const Case& c : {Case{0, 1, 1}, Case{0, 1, 0}, Case{0, 2, 2}}) {
    CAPTURE(c.source, c.destination, c.waiting);
    MiniCluster cluster({0, 1, 0}, /*seed=*/5);
    cluster.Bind(kOperation,
                 {Simple(0, c.source, c.destination, {3000, 1000})});
    const int other = c.source + c.destination - c.waiting;
    cluster.request(c.waiting).progress_timeout = absl::Milliseconds(200);
    cluster.PrepareAll();
    cluster.Start(c.waiting);  // the other one never starts
    const TestOutcome outcome = cluster.Wait(c.waiting);
    CHECK_THAT(outcome.status,
               StatusIs(absl::StatusCode::kDeadlineExceeded, "transfer 0"));
    CHECK(outcome.peer == Rank(other));
  }
}

// A sync whose peer stood still went on until its progress timeout.
TEST_CASE("an abort ends the wait for a peer that does not open its memory",
          "[executor]") {
  MiniCluster cluster({0, 0}, /*seed=*/8);
  cluster.Bind(kOperation, {Simple(0, 0, 1, {800, 100})});
  cluster.request(1).progress_timeout = absl::Hours(1);
  cluster.PrepareAll();
  cluster.SilencePeersOf(1);
  cluster.Start(1);
  cluster.executor(1).Abort(kOperation, absl::AbortedError("enough"));
  CHECK_THAT(cluster.Wait(1).status,
             StatusIs(absl::StatusCode::kAborted, "enough"));
  cluster.Start(0);
  cluster.executor(0).Abort(kOperation, absl::AbortedError("too"));
  cluster.Wait(0);
  CHECK(cluster.Untouched(1));
}

TEST_CASE("after an abort's end no byte arrives any more", "[executor]") {
  MiniCluster cluster({0, 1}, /*seed=*/6);
  cluster.Bind(kOperation, {Simple(0, 0, 1, {8000, 1000}),
                            Simple(1, 0, 1, {5000, 700}, "v")});
  cluster.PrepareAll();
  cluster.Start(1);
  cluster.executor(1).Abort(kOperation, absl::AbortedError("enough"));
  const TestOutcome outcome = cluster.Wait(1);
  CHECK_THAT(outcome.status, StatusIs(absl::StatusCode::kAborted, "enough"));
  cluster.FillDestinations(1, std::byte{0xEE});
  // The sender meets nobody, and ends by its own abort.
  cluster.Start(0);
  cluster.executor(0).Abort(kOperation, absl::AbortedError("too"));
  CHECK_THAT(cluster.Wait(0).status, StatusIs(absl::StatusCode::kAborted));
  CHECK(cluster.Untouched(1));
}

TEST_CASE(
    "an abort at any moment ends both sides, and the next operation works",
    "[executor]") {
  std::mt19937_64 random(Catch::rngSeed() + 7);
  MiniCluster cluster({0, 0, 1, 1}, random());
  for (uint64_t id = 1; id <= 20; ++id) {
    CAPTURE(id);
    cluster.Bind(OperationId(id), RandomPlan(random, 4));
    cluster.PrepareAll();
    cluster.StartAll();
    const int victim = static_cast<int>(random() % 4);
    // Anywhere between the start and the end, as the machine runs.
    for (uint64_t spin = random() % 300000; spin > 0; --spin) {
      asm volatile("" ::: "memory");
    }
    for (int r = 0; r < 4; ++r) {
      const int rank = (victim + r) % 4;
      cluster.executor(rank).Abort(OperationId(id),
                                   absl::AbortedError("stopped"));
    }
    for (int r = 0; r < 4; ++r) {
      const TestOutcome outcome = cluster.Wait(r);
      // Done before, aborted, or told by a peer that was.
      if (!outcome.status.ok()) {
        CAPTURE(outcome.status);
        CHECK((outcome.status.code() == absl::StatusCode::kAborted ||
               outcome.status.code() == absl::StatusCode::kUnavailable));
      }
    }
    cluster.ReleaseAll();
  }
  cluster.Bind(OperationId(100), RandomPlan(random, 4));
  cluster.PrepareAll();
  cluster.StartAll();
  for (int r = 0; r < 4; ++r) CHECK_OK(cluster.Wait(r).status);
  CHECK(cluster.CheckDestinations() == "");
}

TEST_CASE("a puller hears at once that its source gave up, and because of whom",
          "[executor]") {
  // 0 -> 1 between nodes, 1 -> 2 inside the node, after it. 0 never starts.
  TestTransfer relay = Simple(1, 1, 2, {100, 100});
  relay.reads_after = 0;
  MiniCluster cluster({0, 1, 1}, /*seed=*/8);
  cluster.Bind(kOperation, {Simple(0, 0, 1, {100, 100}), relay});
  cluster.request(1).progress_timeout = absl::Milliseconds(200);
  cluster.request(2).progress_timeout = absl::Seconds(50);
  cluster.PrepareAll();
  cluster.Start(1);
  cluster.Start(2);
  CHECK_THAT(cluster.Wait(1).status,
             StatusIs(absl::StatusCode::kDeadlineExceeded));
  const TestOutcome outcome = cluster.Wait(2);
  CHECK_THAT(outcome.status,
             StatusIs(absl::StatusCode::kUnavailable, "rank 1"));
  CHECK(outcome.peer == Rank(0));
  CHECK(cluster.Untouched(2));
}

TEST_CASE("a peer that ends is told to those who wait for it", "[executor]") {
  MiniCluster cluster({0, 1}, /*seed=*/9);
  cluster.Bind(kOperation, {Simple(0, 0, 1, {3000, 1000})});
  cluster.PrepareAll();
  cluster.Start(1);
  cluster.DestroyExecutor(0);
  const TestOutcome outcome = cluster.Wait(1);
  CHECK_THAT(outcome.status, StatusIs(absl::StatusCode::kUnavailable));
  CHECK(outcome.peer == Rank(0));
}

TEST_CASE("what cannot be bound is refused and leaves nothing behind",
          "[executor]") {
  MiniCluster cluster({0, 1}, /*seed=*/10);
  cluster.Bind(kOperation, {Simple(0, 0, 1, {30, 10})});
  ExecutionRequest& request = cluster.request(1);
  BoundPlace& place = request.transfers[0].pieces[0].destinations[0];
  const int64_t offset = place.offset_bytes;
  place.offset_bytes = place.memory->size() - 10;
  CHECK_THAT(cluster.Prepare(1),
             StatusIs(absl::StatusCode::kInvalidArgument, "\"w\""));
  place.offset_bytes = offset;
  request.transfers[0].bytes += 1;
  CHECK_THAT(cluster.Prepare(1), StatusIs(absl::StatusCode::kInvalidArgument));
  request.transfers[0].bytes -= 1;
  request.transfers[0].link = LinkClass::kSameDevice;
  CHECK_THAT(cluster.Prepare(1), StatusIs(absl::StatusCode::kInvalidArgument));
  request.transfers[0].link = LinkClass::kBetweenNodes;
  CHECK_THAT(cluster.executor(1).Start(kOperation),
             StatusIs(absl::StatusCode::kNotFound));
  REQUIRE_OK(cluster.Prepare(1));
  CHECK_THAT(cluster.Prepare(1), StatusIs(absl::StatusCode::kAlreadyExists));
  REQUIRE_OK(cluster.Prepare(0));
  cluster.StartAll();
  REQUIRE_OK(cluster.Wait(0).status);
  REQUIRE_OK(cluster.Wait(1).status);
  CHECK(cluster.CheckDestinations() == "");
  cluster.ReleaseAll();
  CHECK_FALSE(cluster.executor(1).Board(kOperation).ok());
}

TEST_CASE("an empty part is done at once, a prepared one can be aborted",
          "[executor]") {
  MiniCluster cluster({0, 1}, /*seed=*/11);
  cluster.Bind(kOperation, {});
  cluster.PrepareAll();
  cluster.Start(0);
  CHECK_THAT(cluster.Wait(0).status, testing::IsOk());
  cluster.executor(1).Abort(kOperation, absl::CancelledError("no"));
  CHECK_THAT(cluster.Wait(1).status, StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace sluice::agent
