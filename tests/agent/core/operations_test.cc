// Syncs: bound before anything moves, voted once, decided by the coordinator
// alone, and nothing published is touched before that.

#include <catch2/catch.hpp>
#include <functional>

#include "tests/agent/core/test_agent.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using sluice::testing::IsOk;
using sluice::testing::StatusIs;
using testing::Effects;
using testing::TestAgent;

const OperationId kSync(20);

// "src" holds version 2 and "dst" version 1.
struct Synced {
  Synced() {
    src = agent.Define("src", Storage::kArena);
    dst = agent.Define("dst", Storage::kArena);
    agent.Load(dst, OperationId(1), Version(1));
    agent.Load(src, OperationId(2), Version(2));
  }
  absl::Status AskPrepare() {
    return agent.Ask(testing::Prepare(kSync, src, {dst}, Version(2)));
  }
  Effects Done(absl::Status status = absl::OkStatus(), Rank blamed = kNoRank) {
    return agent.Do(ExecutionDoneEvent{kSync, std::move(status), {}, blamed});
  }
  CopyState StateOf(int copy) { return agent.CopiesOf("dst")[copy].state; }

  TestAgent agent;
  PlacementRef src, dst;
};

TEST_CASE("a sync fills the copy that is not published and the commit flips",
          "[agent][core]") {
  Synced t;
  const Effects prepared =
      t.agent.Send(testing::Prepare(kSync, t.src, {t.dst}, Version(2)));
  const auto order = prepared.Of<PrepareExecution>().at(0);
  REQUIRE(order.source.has_value());
  CHECK(order.source->ref == t.src);
  REQUIRE(order.destinations.at(0).has_value());
  CHECK(order.staging_bytes == testing::TestOptions().staging_bytes);
  CHECK(t.StateOf(0) == CopyState::kPublished);
  CHECK(t.StateOf(1) == CopyState::kFilling);

  CHECK(t.agent.Send(ExecuteCommand{kSync}).Of<StartExecution>().size() == 1);
  const Effects done = t.Done();
  CHECK_THAT(done.Told<VoteEvent>().at(0).outcome, IsOk());
  CHECK(done.Of<TellVersion>().empty());
  CHECK(t.StateOf(1) == CopyState::kStaged);

  const Effects committed = t.agent.Send(CommitCommand{kSync, Version(2)});
  CHECK(committed.Of<TellVersion>().at(0).version == Version(2));
  CHECK(committed.Of<ReleaseExecution>().size() == 1);
  const auto copies = t.agent.CopiesOf("dst");
  CHECK(copies[0] == CopyInventory{CopyState::kPublished, Version(1), {}, 0});
  CHECK(copies[1] == CopyInventory{CopyState::kPublished, Version(2), {}, 0});
  CHECK(t.agent.Inventory().operations.empty());
}

TEST_CASE("an execute is answered by the vote, a repeated one by itself",
          "[agent][core]") {
  Synced t;
  REQUIRE_OK(t.AskPrepare());
  const Effects started = t.agent.Send(ExecuteCommand{kSync});
  const CommandId id = t.agent.last_command();
  CHECK_FALSE(started.ResultOf(id).has_value());
  const Effects again = t.agent.SendAgain(id, ExecuteCommand{kSync});
  CHECK(again.Of<StartExecution>().empty());
  CHECK(again.ResultOf(id) == absl::OkStatus());
  CHECK_THAT(t.Done().Told<VoteEvent>().at(0).outcome, IsOk());
}

TEST_CASE("a part is sent once and named by its digest", "[agent][core]") {
  Synced t;
  PrepareCommand prepare = testing::Prepare(kSync, t.src, {t.dst}, Version(2));
  const auto part = prepare.part;
  prepare.part = nullptr;
  CHECK_THAT(t.agent.Ask(prepare), StatusIs(absl::StatusCode::kNotFound));
  prepare.part = part;
  CHECK_THAT(t.agent.Ask(prepare), IsOk());
  t.agent.Must(AbortCommand{kSync, absl::AbortedError("test")});
  t.Done(absl::AbortedError("test"));
  t.agent.Must(ReleaseCommand{kSync});
  prepare.part = nullptr;
  prepare.operation = OperationId(21);
  CHECK_THAT(t.agent.Ask(prepare), IsOk());
}

TEST_CASE("what cannot be bound is refused and nothing is kept",
          "[agent][core]") {
  Synced t;
  t.agent.Define("lent", Storage::kLent);
  PrepareCommand prepare = testing::Prepare(kSync, t.src, {t.dst}, Version(2));
  struct Row {
    std::string what;
    std::function<void(PrepareCommand&)> spoil;
    absl::StatusCode code;
    std::string names;
  };
  const auto row = GENERATE(values<Row>({
      {"a version that is not here",
       [](PrepareCommand& p) { p.version = Version(9); },
       absl::StatusCode::kFailedPrecondition, "version 9"},
      {"an unknown source", [](PrepareCommand& p) { p.source.placement = "x"; },
       absl::StatusCode::kFailedPrecondition, "m/x"},
      {"another generation", [](PrepareCommand& p) { p.source.generation = 7; },
       absl::StatusCode::kAborted, "m/src"},
      {"an unknown destination",
       [](PrepareCommand& p) { p.destinations[0].placement = "y"; },
       absl::StatusCode::kFailedPrecondition, "m/y"},
      {"a lent destination",
       [](PrepareCommand& p) { p.destinations[0].placement = "lent"; },
       absl::StatusCode::kFailedPrecondition, "m/lent"},
      {"a destination twice",
       [](PrepareCommand& p) { p.destinations.push_back(p.destinations[0]); },
       absl::StatusCode::kInvalidArgument, "m/dst"},
      {"a digest unlike the part's",
       [](PrepareCommand& p) { p.part_digest += 1; },
       absl::StatusCode::kInvalidArgument, ""},
  }));
  CAPTURE(row.what);
  row.spoil(prepare);
  CHECK_THAT(t.agent.Ask(prepare), StatusIs(row.code, row.names));
  CHECK(t.agent.Inventory().operations.empty());
  CHECK_THAT(t.AskPrepare(), IsOk());
}

TEST_CASE("a refusal of the host leaves the published copy", "[agent][core]") {
  Synced t;
  t.agent.prepare_answer = absl::InvalidArgumentError("a place outside");
  CHECK_THAT(t.AskPrepare(), StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK(t.StateOf(0) == CopyState::kPublished);
  CHECK(t.StateOf(1) == CopyState::kAbsent);
  CHECK(t.agent.Inventory().operations.empty());
}

TEST_CASE("a failed execution votes with its error and whom it blames",
          "[agent][core]") {
  Synced t;
  REQUIRE_OK(t.AskPrepare());
  t.agent.Must(ExecuteCommand{kSync});
  const Effects done = t.Done(absl::UnavailableError("peer"), Rank(1));
  const VoteEvent vote = done.Told<VoteEvent>().at(0);
  CHECK_THAT(vote.outcome, StatusIs(absl::StatusCode::kUnavailable));
  CHECK(vote.blamed == Rank(1));
  CHECK(t.StateOf(0) == CopyState::kPublished);
  CHECK(t.StateOf(1) == CopyState::kAbsent);
  CHECK_THAT(t.agent.Ask(CommitCommand{kSync, Version(2)}),
             StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_CASE("an abort is over when nothing touches the memory", "[agent][core]") {
  Synced t;
  REQUIRE_OK(t.AskPrepare());
  t.agent.Must(ExecuteCommand{kSync});
  const Effects aborted =
      t.agent.Send(AbortCommand{kSync, absl::AbortedError("client gone")});
  CHECK(aborted.ResultOf(t.agent.last_command()) == absl::OkStatus());
  CHECK(aborted.Of<AbortExecution>().size() == 1);
  CHECK(aborted.Told<StoppedEvent>().empty());
  CHECK(t.StateOf(1) == CopyState::kFilling);
  const Effects done = t.Done(absl::AbortedError("client gone"));
  CHECK(done.Told<StoppedEvent>().size() == 1);
  CHECK(done.Told<VoteEvent>().empty());
  CHECK(t.StateOf(0) == CopyState::kPublished);
  CHECK(t.StateOf(1) == CopyState::kAbsent);
}

TEST_CASE("a release that does not wait for the stop takes effect with it",
          "[agent][core]") {
  Synced t;
  REQUIRE_OK(t.AskPrepare());
  t.agent.Must(AbortCommand{kSync, absl::AbortedError("test")});
  CHECK_THAT(t.agent.Ask(ReleaseCommand{kSync}), IsOk());
  CHECK(t.StateOf(1) == CopyState::kFilling);
  const Effects done = t.Done(absl::AbortedError("test"));
  CHECK(done.Told<StoppedEvent>().size() == 1);
  CHECK(done.Of<ReleaseExecution>().size() == 1);
  CHECK(t.agent.Inventory().operations.empty());
}

TEST_CASE("an abort reaches the operation in each of its states",
          "[agent][core]") {
  Synced t;
  const AbortCommand abort{kSync, absl::AbortedError("test")};
  SECTION("unknown") {
    CHECK(t.agent.Send(abort).Told<StoppedEvent>().size() == 1);
  }
  SECTION("while the host binds") {
    t.agent.answer_prepares = false;
    t.agent.Send(testing::Prepare(kSync, t.src, {t.dst}, Version(2)));
    const CommandId prepare = t.agent.last_command();
    CHECK(t.agent.Send(abort).Told<StoppedEvent>().empty());
    const Effects bound =
        t.agent.Do(ExecutionPreparedEvent{kSync, absl::OkStatus()});
    CHECK_THAT(*bound.ResultOf(prepare), StatusIs(absl::StatusCode::kAborted));
    CHECK(bound.Of<AbortExecution>().size() == 1);
    CHECK(t.Done(absl::AbortedError("")).Told<StoppedEvent>().size() == 1);
  }
  SECTION("bound") {
    REQUIRE_OK(t.AskPrepare());
    CHECK(t.agent.Send(abort).Of<AbortExecution>().size() == 1);
    CHECK(t.Done(absl::AbortedError("")).Told<StoppedEvent>().size() == 1);
  }
  SECTION("voted") {
    REQUIRE_OK(t.AskPrepare());
    t.agent.Must(ExecuteCommand{kSync});
    t.Done();
    const Effects aborted = t.agent.Send(abort);
    CHECK(aborted.Of<AbortExecution>().empty());
    CHECK(aborted.Told<StoppedEvent>().size() == 1);
  }
  SECTION("failed") {
    REQUIRE_OK(t.AskPrepare());
    t.agent.Must(ExecuteCommand{kSync});
    t.Done(absl::UnavailableError(""));
    CHECK(t.agent.Send(abort).Told<StoppedEvent>().size() == 1);
  }
  CHECK_THAT(t.agent.Ask(ReleaseCommand{kSync}), IsOk());
  CHECK(t.agent.Inventory().operations.empty());
  CHECK(t.StateOf(0) == CopyState::kPublished);
  CHECK(t.agent.CopiesOf("dst")[0].version == Version(1));
  // Free for the next sync, with all its memory.
  t.agent.answer_prepares = true;
  CHECK_THAT(t.agent.Ask(
                 testing::Prepare(OperationId(21), t.src, {t.dst}, Version(2))),
             IsOk());
}

TEST_CASE("a commit is repeatable, also by a later coordinator",
          "[agent][core]") {
  Synced t;
  t.agent.SyncToVote(kSync, t.src, t.dst, Version(2));
  CHECK_THAT(t.agent.Ask(CommitCommand{kSync, Version(2)}), IsOk());
  CHECK_THAT(t.agent.Ask(CommitCommand{kSync, Version(2)}), IsOk());
  t.agent.Reconnect(Epoch(2));
  CHECK_THAT(t.agent.Ask(CommitCommand{kSync, Version(2)}), IsOk());
  CHECK_THAT(t.agent.Ask(CommitCommand{OperationId(99), Version(2)}),
             StatusIs(absl::StatusCode::kNotFound));
}

TEST_CASE("what was committed stays when a later coordinator aborts",
          "[agent][core]") {
  Synced t;
  t.agent.SyncToVote(kSync, t.src, t.dst, Version(2));
  t.agent.Must(CommitCommand{kSync, Version(2)});
  t.agent.Reconnect(Epoch(2));
  const Effects aborted = t.agent.Send(AbortCommand{kSync, absl::OkStatus()});
  CHECK(aborted.Told<StoppedEvent>().size() == 1);
  CHECK(t.agent.CopiesOf("dst")[1].version == Version(2));
}

TEST_CASE("before its vote an agent ends an operation by its own deadline",
          "[agent][core]") {
  Synced t;
  REQUIRE_OK(t.AskPrepare());
  SECTION("from Prepare on") {}
  SECTION("from Execute on, anew") {
    t.agent.Advance(absl::Seconds(20));
    t.agent.Must(ExecuteCommand{kSync});
  }
  CHECK(t.agent.Advance(absl::Seconds(29)).Of<AbortExecution>().empty());
  CHECK(t.agent.Advance(absl::Seconds(2)).Of<AbortExecution>().size() == 1);
  // Also if it would have ended well: it has decided.
  const Effects done = t.Done();
  CHECK_THAT(done.Told<VoteEvent>().at(0).outcome,
             StatusIs(absl::StatusCode::kDeadlineExceeded));
  CHECK(t.StateOf(1) == CopyState::kAbsent);
}

TEST_CASE("after its vote an agent never decides alone", "[agent][core]") {
  Synced t;
  t.agent.SyncToVote(kSync, t.src, t.dst, Version(2));
  t.agent.Do(StreamDownEvent{});
  t.agent.Advance(absl::Hours(24));
  t.agent.Reconnect(Epoch(2));
  CHECK(t.StateOf(0) == CopyState::kPublished);
  CHECK(t.StateOf(1) == CopyState::kStaged);
  CHECK_THAT(t.agent.Ask(ReleaseCommand{kSync}),
             StatusIs(absl::StatusCode::kFailedPrecondition));
  CHECK_THAT(t.agent.Ask(CommitCommand{kSync, Version(2)}), IsOk());
}

TEST_CASE("a sync waits for the pin of the copy it overwrites",
          "[agent][core]") {
  Synced t;
  t.agent.SyncToVote(kSync, t.src, t.dst, Version(2));
  const SessionId session = t.agent.Attach("reader");
  PinRequest pin{t.agent.NewCall(), session, "m", "dst", Version(1), {}};
  const PinId pinned = t.agent.Do(pin).BodyOf<PinReply>(pin.call).pin;
  t.agent.Must(CommitCommand{kSync, Version(2)});

  const OperationId next(21);
  const Effects waits =
      t.agent.Send(testing::Prepare(next, t.src, {t.dst}, Version(2)));
  const CommandId id = t.agent.last_command();
  CHECK_FALSE(waits.ResultOf(id).has_value());
  CHECK(waits.Of<PrepareExecution>().empty());
  SECTION("until it is gone") {
    const Effects unpinned =
        t.agent.Do(UnpinRequest{t.agent.NewCall(), session, pinned});
    CHECK(unpinned.ResultOf(id) == absl::OkStatus());
  }
  SECTION("until its worker is gone") {
    CHECK(t.agent.Do(SessionGoneEvent{session}).ResultOf(id) ==
          absl::OkStatus());
  }
  SECTION("until the deadline, which names the worker") {
    CHECK_THAT(*t.agent.Advance(absl::Seconds(10)).ResultOf(id),
               StatusIs(absl::StatusCode::kDeadlineExceeded, "reader"));
    CHECK(t.agent.Inventory().operations.empty());
  }
  SECTION("or is aborted") {
    const Effects aborted =
        t.agent.Send(AbortCommand{next, absl::AbortedError("test")});
    CHECK_THAT(*aborted.ResultOf(id), StatusIs(absl::StatusCode::kAborted));
    CHECK(aborted.Told<StoppedEvent>().size() == 1);
    CHECK(t.agent.Inventory().operations.empty());
  }
  SECTION("while nobody gets a new pin of it") {
    PinRequest late{t.agent.NewCall(), session, "m", "dst", Version(1), {}};
    CHECK_THAT(*t.agent.Do(late).StatusOf(late.call),
               StatusIs(absl::StatusCode::kNotFound));
  }
}

TEST_CASE("a sync waits for the operation that reads the copy it overwrites",
          "[agent][core]") {
  Synced t;
  // "dst" version 1 is read by an operation that is not decided.
  const PlacementRef other = t.agent.Define("other", Storage::kArena);
  t.agent.SyncToVote(OperationId(10), t.dst, other, Version(1));
  t.agent.SyncToVote(kSync, t.src, t.dst, Version(2));
  t.agent.Must(CommitCommand{kSync, Version(2)});

  t.agent.Send(testing::Prepare(OperationId(21), t.src, {t.dst}, Version(2)));
  const CommandId id = t.agent.last_command();
  const Effects committed =
      t.agent.Send(CommitCommand{OperationId(10), Version(1)});
  CHECK(committed.ResultOf(id) == absl::OkStatus());
}

TEST_CASE("a member that receives nothing is published with the others",
          "[agent][core]") {
  Synced t;
  // A part without transfers, as for an agent whose share is empty.
  auto empty = std::make_shared<PlanPart>();
  empty->digest = 5;
  CHECK_THAT(
      t.agent.Ask(testing::Prepare(kSync, t.src, {t.dst}, Version(2), empty)),
      IsOk());
  t.agent.Must(ExecuteCommand{kSync});
  t.Done();
  t.agent.Must(CommitCommand{kSync, Version(2)});
  CHECK(t.agent.CopiesOf("dst")[1].version == Version(2));
}

TEST_CASE("a receiver needs no source placement", "[agent][core]") {
  Synced t;
  const Effects prepared =
      t.agent.Send(testing::Prepare(kSync, {"m", "elsewhere", 3}, {t.dst},
                                    Version(2), testing::ReceivingPart()));
  CHECK(prepared.ResultOf(t.agent.last_command()) == absl::OkStatus());
  CHECK_FALSE(prepared.Of<PrepareExecution>().at(0).source.has_value());
}

TEST_CASE("progress is told while it runs", "[agent][core]") {
  Synced t;
  REQUIRE_OK(t.AskPrepare());
  const ExecutionProgressEvent progress{kSync, 32};
  CHECK(t.agent.Do(progress).Told<ProgressEvent>().empty());
  t.agent.Must(ExecuteCommand{kSync});
  CHECK(t.agent.Do(progress).Told<ProgressEvent>().at(0).bytes_done == 32);
  t.Done();
  CHECK(t.agent.Do(progress).Told<ProgressEvent>().empty());
}

TEST_CASE("an overwritten version's digests are forgotten", "[agent][core]") {
  Synced t;
  t.agent.SyncToVote(kSync, t.src, t.dst, Version(2));
  t.agent.Must(CommitCommand{kSync, Version(2)});
  const Effects prepared = t.agent.Send(
      testing::Prepare(OperationId(21), t.src, {t.dst}, Version(2)));
  const auto forgotten = prepared.Of<ForgetContent>();
  REQUIRE(forgotten.size() == 1);
  CHECK(prepared.Of<PrepareExecution>().at(0).content_key !=
        forgotten[0].content_key);
}

}  // namespace
}  // namespace sluice::agent
