// Loads from files, and reading digests of what landed.

#include <catch2/catch.hpp>

#include "tests/agent/core/test_agent.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using sluice::testing::IsOk;
using sluice::testing::StatusIs;
using testing::Effects;
using testing::TestAgent;

const OperationId kLoad(30);

TEST_CASE("a load into an arena fills the unpublished copy", "[agent][core]") {
  TestAgent agent;
  const PlacementRef dst = agent.Define("dst", Storage::kArena);
  agent.Load(dst, OperationId(1), Version(1));
  const Effects started =
      agent.Send(LoadCommand{kLoad, dst, "/checkpoint", absl::Minutes(1)});
  CHECK(started.ResultOf(agent.last_command()) == absl::OkStatus());
  REQUIRE(started.Of<StartLoad>().size() == 1);
  CHECK(started.Of<StartLoad>()[0].directory == "/checkpoint");
  CHECK(started.Of<TellVersion>().empty());
  SECTION("and its commit publishes the version") {
    const Effects done = agent.Do(LoadDoneEvent{kLoad, absl::OkStatus(), {}});
    CHECK_THAT(done.Told<VoteEvent>().at(0).outcome, IsOk());
    const Effects committed = agent.Send(CommitCommand{kLoad, Version(8)});
    CHECK(committed.Of<TellVersion>().at(0).version == Version(8));
  }
  SECTION("and its failure leaves the published one") {
    const Effects done =
        agent.Do(LoadDoneEvent{kLoad, absl::NotFoundError("no file"), {}});
    CHECK_THAT(done.Told<VoteEvent>().at(0).outcome,
               StatusIs(absl::StatusCode::kNotFound));
    const auto copies = agent.CopiesOf("dst");
    CHECK(copies[0].version == Version(1));
    CHECK(copies[1].state == CopyState::kAbsent);
  }
}

TEST_CASE("a load into lent memory ends the claim to the old version",
          "[agent][core]") {
  TestAgent agent;
  const PlacementRef src = agent.Define("src", Storage::kLent);
  const SessionId session = agent.Attach("trainer");
  agent.Lend(session, "src", Version(3));
  const Effects started =
      agent.Send(LoadCommand{kLoad, src, "/c", absl::Minutes(1)});
  CHECK(started.Of<TellVersion>().at(0).version == Version());
  CHECK(started.Of<ForgetContent>().size() == 1);
  SECTION("and publishes the new one with the commit") {
    agent.Do(LoadDoneEvent{kLoad, absl::OkStatus(), {}});
    CHECK(agent.CopiesOf("src")[0].state == CopyState::kStaged);
    agent.Must(CommitCommand{kLoad, Version(4)});
    CHECK(agent.CopiesOf("src")[0].version == Version(4));
  }
  SECTION("and is torn if it fails midway") {
    agent.Do(LoadDoneEvent{kLoad, absl::DataLossError("truncated"), {}});
    CHECK(agent.CopiesOf("src")[0].state == CopyState::kTorn);
  }
  SECTION("and is torn if it is aborted, running or voted") {
    if (GENERATE(true, false)) {
      agent.Do(LoadDoneEvent{kLoad, absl::OkStatus(), {}});
      CHECK(agent.Send(AbortCommand{kLoad, absl::AbortedError("")})
                .Told<StoppedEvent>()
                .size() == 1);
    } else {
      const Effects aborted =
          agent.Send(AbortCommand{kLoad, absl::AbortedError("")});
      CHECK(aborted.Of<AbortLoad>().size() == 1);
      CHECK(aborted.Told<StoppedEvent>().empty());
      CHECK(agent.Do(LoadDoneEvent{kLoad, absl::AbortedError(""), {}})
                .Told<StoppedEvent>()
                .size() == 1);
    }
    CHECK(agent.CopiesOf("src")[0].state == CopyState::kTorn);
    CHECK(agent.Inventory().operations.empty());
    // A load heals it.
    agent.Load(src, OperationId(31), Version(5));
    CHECK(agent.CopiesOf("src")[0].state == CopyState::kPublished);
  }
}

TEST_CASE(
    "a load tells the lender also of the end of a content without version",
    "[agent][core]") {
  TestAgent agent;
  const PlacementRef src = agent.Define("src", Storage::kLent);
  agent.Lend(agent.Attach("trainer"), "src", Version(), /*step=*/5);
  const Effects started =
      agent.Send(LoadCommand{kLoad, src, "/c", absl::Minutes(1)});
  CHECK(started.Of<TellVersion>().at(0).version == Version());
}

TEST_CASE("a load needs lent memory that nobody writes", "[agent][core]") {
  TestAgent agent;
  const PlacementRef src = agent.Define("src", Storage::kLent);
  const LoadCommand load{kLoad, src, "/c", absl::Minutes(1)};
  CHECK_THAT(agent.Ask(load), StatusIs(absl::StatusCode::kFailedPrecondition));
  const SessionId session = agent.Attach("trainer");
  agent.Lend(session, "src", Version());
  const CallId begin = agent.NewCall();
  agent.Do(BeginWriteRequest{begin, session, "m", "src", {}});
  CHECK_THAT(agent.Ask(load),
             StatusIs(absl::StatusCode::kFailedPrecondition, "trainer"));
  CHECK(agent.Inventory().operations.empty());
}

TEST_CASE("a load waits for pins of lent memory", "[agent][core]") {
  TestAgent agent;
  const PlacementRef src = agent.Define("src", Storage::kLent);
  const SessionId session = agent.Attach("trainer");
  agent.Lend(session, "src", Version(3));
  const SessionId reader = agent.Attach("reader");
  PinRequest pin{agent.NewCall(), reader, "m", "src", Version(), {}};
  const PinReply pinned = agent.Do(pin).BodyOf<PinReply>(pin.call);
  CHECK(pinned.version == Version(3));
  agent.Send(LoadCommand{kLoad, src, "/c", absl::Minutes(1)});
  const CommandId id = agent.last_command();
  const Effects unpinned =
      agent.Do(UnpinRequest{agent.NewCall(), reader, pinned.pin});
  CHECK(unpinned.ResultOf(id) == absl::OkStatus());
  CHECK(unpinned.Of<StartLoad>().size() == 1);
}

TEST_CASE("a load ends by its own deadline", "[agent][core]") {
  TestAgent agent;
  const PlacementRef dst = agent.Define("dst", Storage::kArena);
  agent.Must(LoadCommand{kLoad, dst, "/c", absl::Seconds(5)});
  CHECK(agent.Advance(absl::Seconds(5)).Of<AbortLoad>().size() == 1);
  const Effects done =
      agent.Do(LoadDoneEvent{kLoad, absl::DeadlineExceededError(""), {}});
  CHECK_THAT(done.Told<VoteEvent>().at(0).outcome,
             StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST_CASE("digests are told before the answer, in bounded events",
          "[agent][core]") {
  TestAgent agent;
  const PlacementRef dst = agent.Define("dst", Storage::kArena);
  agent.Load(dst, OperationId(1), Version(1));
  const ReadDigestsCommand read{OperationId(40), dst, Version(1)};
  CHECK(agent.Send(read).Of<ReadDigests>().size() == 1);
  const CommandId id = agent.last_command();
  const Effects done = agent.Do(DigestsReadEvent{
      OperationId(40), absl::OkStatus(), std::vector<BoxDigest>(1500)});
  const auto digests = done.Told<DigestsEvent>();
  REQUIRE(digests.size() == 2);
  CHECK(digests[0].digests.size() == 1000);
  CHECK(digests[1].digests.size() == 500);
  CHECK(done.ResultOf(id) == absl::OkStatus());
  CHECK(agent.Inventory().operations.empty());
  // The answer alone is worth nothing: a repeated command reads again.
  CHECK(agent.SendAgain(id, read).Of<ReadDigests>().size() == 1);
}

TEST_CASE("digests are read of a version that is here", "[agent][core]") {
  TestAgent agent;
  const PlacementRef dst = agent.Define("dst", Storage::kArena);
  agent.Load(dst, OperationId(1), Version(1));
  CHECK_THAT(agent.Ask(ReadDigestsCommand{OperationId(40), dst, Version(2)}),
             StatusIs(absl::StatusCode::kFailedPrecondition, "version 2"));
  CHECK(agent.Inventory().operations.empty());
}

}  // namespace
}  // namespace sluice::agent
