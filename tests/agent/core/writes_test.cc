// Lent memory and write brackets.

#include <catch2/catch.hpp>
#include <string>
#include <variant>
#include <vector>

#include "tests/agent/core/test_agent.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using sluice::testing::IsOk;
using sluice::testing::StatusIs;
using testing::Effects;
using testing::TestAgent;

// "src" lent by worker "trainer" with version 1; "dst" an arena.
struct Trainer {
  Trainer() {
    src = agent.Define("src", Storage::kLent);
    dst = agent.Define("dst", Storage::kArena);
    session = agent.Attach("trainer");
    buffer = agent.Lend(session, "src", Version(1));
  }
  BeginWriteRequest Begin() {
    return {agent.NewCall(), session, "m", "src", absl::Seconds(3)};
  }
  EndWriteRequest End(int64_t step) {
    return {agent.NewCall(), session, "m", "src", step};
  }
  absl::Status Open() {
    const BeginWriteRequest begin = Begin();
    return *agent.Do(begin).StatusOf(begin.call);
  }
  CopyInventory Held() { return agent.CopiesOf("src")[0]; }

  TestAgent agent;
  PlacementRef src, dst;
  SessionId session;
  BufferId buffer;
};

LendMemoryRequest LendRequest(Trainer& t, SessionId session, BufferId buffer) {
  LendMemoryRequest request;
  request.call = t.agent.NewCall();
  request.session = session;
  request.model = "m";
  request.placement = "src";
  request.buffer = buffer;
  request.buffer_bytes = testing::kCopyBytes;
  return request;
}

TEST_CASE("what a worker lends holds what it says", "[agent][core]") {
  Trainer t;
  CHECK(t.Held() == CopyInventory{CopyState::kPublished, Version(1), {}, 0});
  const auto held = t.agent.Inventory().placements;
  CHECK(held.at(1).placement.placement == "src");
  CHECK(held.at(1).lent);
}

TEST_CASE("memory that cannot be lent is given back at once", "[agent][core]") {
  Trainer t;
  const BufferId buffer(kHostBufferBit | 99);
  LendMemoryRequest request = LendRequest(t, t.session, buffer);
  SECTION("too small") {
    request.buffer_bytes = 255;
    const Effects effects = t.agent.Do(request);
    CHECK_THAT(*effects.StatusOf(request.call),
               StatusIs(absl::StatusCode::kInvalidArgument, "256"));
    CHECK(effects.Of<FreeBuffer>().at(0).buffer == buffer);
  }
  SECTION("for an arena placement") {
    request.placement = "dst";
    CHECK_THAT(*t.agent.Do(request).StatusOf(request.call),
               StatusIs(absl::StatusCode::kFailedPrecondition));
  }
  SECTION("while another worker lends") {
    request.session = t.agent.Attach("other");
    CHECK_THAT(*t.agent.Do(request).StatusOf(request.call),
               StatusIs(absl::StatusCode::kFailedPrecondition, "trainer"));
  }
  SECTION("while an operation reads it") {
    t.agent.Must(testing::Prepare(OperationId(20), t.src, {t.dst}, Version(1)));
    const Effects effects = t.agent.Do(request);
    CHECK_THAT(*effects.StatusOf(request.call),
               StatusIs(absl::StatusCode::kFailedPrecondition, "20"));
    CHECK(effects.Of<FreeBuffer>().at(0).buffer == buffer);
  }
  CHECK(t.Held().version == Version(1));
}

TEST_CASE("memory lent anew replaces the old", "[agent][core]") {
  Trainer t;
  // The worker died and came back; what it lent stays readable meanwhile.
  t.agent.Do(SessionGoneEvent{t.session});
  CHECK(t.Held().version == Version(1));
  t.session = t.agent.Attach("trainer");
  const BufferId buffer(kHostBufferBit | 99);
  const Effects lent = t.agent.Do(LendRequest(t, t.session, buffer));
  CHECK(lent.Of<FreeBuffer>().at(0).buffer == t.buffer);
  CHECK(lent.Of<TellVersion>().at(0).version == Version());
  CHECK(t.Held().state == CopyState::kAbsent);
}

// As Trainer, with memory of a GPU.
struct GpuTrainer : Trainer {
  GpuTrainer() {
    LendMemoryRequest request = LendRequest(*this, session, BufferId());
    request.buffer = buffer = BufferId(kHostBufferBit | 77);
    request.version = Version(1);
    request.ends_with_worker = true;
    const Effects lent = agent.Do(request);
    agent.Send(EventAck{lent.EventIdOf<WriteEvent>(), absl::OkStatus(), {}});
  }
};

bool IsFreed(const Effects& effects, BufferId buffer) {
  for (const FreeBuffer& order : effects.Of<FreeBuffer>()) {
    if (order.buffer == buffer) return true;
  }
  return false;
}

TEST_CASE("memory of a GPU goes with its worker, content and all",
          "[agent][core]") {
  GpuTrainer t;
  REQUIRE(t.Held().version == Version(1));
  const Effects gone = t.agent.Do(SessionGoneEvent{t.session});
  CHECK(IsFreed(gone, t.buffer));
  CHECK(gone.Told<WriteEvent>().at(0).kind == WriteEvent::Kind::kTorn);
  CHECK(gone.Of<TellVersion>().at(0).version == Version());
  CHECK(gone.Of<ForgetContent>().size() == 1);
  CHECK(t.Held() == CopyInventory{CopyState::kTorn, Version(), {}, 0});
  CHECK_THAT(t.agent.Ask(
                 testing::Prepare(OperationId(20), t.src, {t.dst}, Version(1))),
             StatusIs(absl::StatusCode::kFailedPrecondition, "torn"));
  CHECK_THAT(
      t.agent.Ask(LoadCommand{OperationId(21), t.src, "/c", absl::Minutes(1)}),
      StatusIs(absl::StatusCode::kFailedPrecondition, "lent"));
  // The next worker starts afresh.
  t.session = t.agent.Attach("trainer");
  t.agent.Lend(t.session, "src", Version(1));
  CHECK(t.Held() == CopyInventory{CopyState::kPublished, Version(1), {}, 0});
}

TEST_CASE("memory of a GPU without content goes with its worker unsaid",
          "[agent][core]") {
  GpuTrainer t;
  REQUIRE_OK(t.Open());
  SECTION("inside a bracket") {
    const Effects gone = t.agent.Do(SessionGoneEvent{t.session});
    CHECK(gone.Told<WriteEvent>().size() == 1);  // of the bracket
    CHECK(IsFreed(gone, t.buffer));
    CHECK(t.Held().state == CopyState::kTorn);
  }
  SECTION("after a step whose version is not there yet") {
    const Effects ended = t.agent.Do(t.End(7));
    CHECK(IsFreed(t.agent.Do(SessionGoneEvent{t.session}), t.buffer));
    t.agent.Send(
        EventAck{ended.EventIdOf<WriteEvent>(), absl::OkStatus(), Version(2)});
    CHECK(t.Held() == CopyInventory{CopyState::kTorn, Version(), {}, 0});
  }
}

TEST_CASE("what reads memory of a GPU ends with its worker", "[agent][core]") {
  GpuTrainer t;
  const OperationId reading(20);
  t.agent.Must(testing::Prepare(reading, t.src, {t.dst}, Version(1)));
  t.agent.Must(ExecuteCommand{reading});
  const Effects gone = t.agent.Do(SessionGoneEvent{t.session});
  REQUIRE(gone.Of<AbortExecution>().size() == 1);
  CHECK_THAT(gone.Of<AbortExecution>()[0].reason,
             StatusIs(absl::StatusCode::kAborted, "trainer"));
  CHECK(t.Held().state == CopyState::kTorn);
  // Until nothing can touch it any more.
  CHECK_FALSE(IsFreed(gone, t.buffer));
  Effects after = t.agent.Do(
      ExecutionDoneEvent{reading, gone.Of<AbortExecution>()[0].reason, {}});
  after.Append(t.agent.Send(AbortCommand{reading, absl::AbortedError("")}).all);
  after.Append(t.agent.Send(ReleaseCommand{reading}).all);
  CHECK(IsFreed(after, t.buffer));
}

TEST_CASE("what fills memory of a GPU ends with its worker", "[agent][core]") {
  GpuTrainer t;
  const OperationId load(20);
  t.agent.Send(LoadCommand{load, t.src, "/c", absl::Minutes(1)});
  REQUIRE(t.Held().state == CopyState::kFilling);
  const Effects gone = t.agent.Do(SessionGoneEvent{t.session});
  CHECK(gone.Of<AbortLoad>().size() == 1);
  CHECK_FALSE(IsFreed(gone, t.buffer));
  Effects after =
      t.agent.Do(LoadDoneEvent{load, absl::AbortedError("gone"), {}});
  after.Append(t.agent.Send(AbortCommand{load, absl::AbortedError("")}).all);
  CHECK(IsFreed(after, t.buffer));
  CHECK(t.Held().state == CopyState::kTorn);
}

TEST_CASE("a vote is taken back where peers read what nothing proves",
          "[agent][core]") {
  GpuTrainer t;
  const OperationId reading(20);
  PrepareCommand prepare = testing::Prepare(reading, t.src, {t.dst}, Version(1),
                                            testing::LendingPart());
  const auto vote = [&] {
    t.agent.Must(prepare);
    t.agent.Must(ExecuteCommand{reading});
    t.agent.Do(ExecutionDoneEvent{reading, absl::OkStatus(), {}, kNoRank});
    return t.agent.Do(SessionGoneEvent{t.session}).Told<VoteEvent>();
  };
  SECTION("told at once, and again to who may not have heard") {
    prepare.digests = false;
    const auto told = vote();
    REQUIRE(told.size() == 1);
    CHECK_THAT(told[0].outcome,
               StatusIs(absl::StatusCode::kAborted, "trainer"));
    const auto again = t.agent.Reconnect(t.agent.epoch).Told<VoteEvent>();
    REQUIRE(again.size() == 1);
    CHECK_FALSE(again[0].outcome.ok());
    // What is decided stays with the coordinator.
    if (GENERATE(false, true)) {
      t.agent.Must(CommitCommand{reading, Version(1)});
      CHECK(t.agent.CopiesOf("dst")[0].version == Version(1));
    } else {
      CHECK(t.agent.Send(AbortCommand{reading, absl::AbortedError("")})
                .Told<StoppedEvent>()
                .size() == 1);
      CHECK(t.agent.CopiesOf("dst")[0].state == CopyState::kAbsent);
    }
  }
  SECTION("not where digests prove it") { CHECK(vote().empty()); }
  SECTION("not where nobody else reads") {
    prepare = testing::Prepare(reading, t.src, {t.dst}, Version(1));
    prepare.digests = false;
    CHECK(vote().empty());
  }
}

TEST_CASE("what is committed into memory that has gone is held by nobody",
          "[agent][core]") {
  GpuTrainer t;
  const OperationId load(20);
  t.agent.Send(LoadCommand{load, t.src, "/c", absl::Minutes(1)});
  t.agent.Do(LoadDoneEvent{load, absl::OkStatus(), {}});
  const Effects gone = t.agent.Do(SessionGoneEvent{t.session});
  // It has voted: the coordinator decides.
  CHECK(gone.Told<VoteEvent>().empty());
  CHECK_FALSE(IsFreed(gone, t.buffer));
  const Effects committed = t.agent.Send(CommitCommand{load, Version(2)});
  // In this order: the coordinator takes the answer as a copy that is held.
  std::vector<std::string> told;
  for (const SendEvent& sent : committed.Of<SendEvent>()) {
    if (std::holds_alternative<CommandResult>(sent.event.body)) {
      told.push_back("answer");
    } else if (const auto* write = std::get_if<WriteEvent>(&sent.event.body)) {
      told.push_back(write->kind == WriteEvent::Kind::kTorn ? "torn" : "?");
    }
  }
  CHECK(told == std::vector<std::string>{"answer", "torn"});
  CHECK(committed.Of<TellVersion>().back().version == Version());
  CHECK(IsFreed(committed, t.buffer));
  CHECK(t.Held() == CopyInventory{CopyState::kTorn, Version(), {}, 0});
}

TEST_CASE("a claim that the coordinator does not take is undone",
          "[agent][core]") {
  Trainer t;
  const BufferId buffer(kHostBufferBit | 99);
  LendMemoryRequest request = LendRequest(t, t.session, buffer);
  request.version = Version(50);
  const Effects lent = t.agent.Do(request);
  const Effects refused =
      t.agent.Send(EventAck{lent.EventIdOf<WriteEvent>(),
                            absl::FailedPreconditionError("no version 50"),
                            {}});
  CHECK_THAT(*refused.StatusOf(request.call),
             StatusIs(absl::StatusCode::kFailedPrecondition));
  CHECK(refused.Of<FreeBuffer>().at(0).buffer == buffer);
  CHECK(t.Held().state == CopyState::kAbsent);
}

TEST_CASE("a bracket ends the claim to the old version and makes a new step",
          "[agent][core]") {
  Trainer t;
  const BeginWriteRequest begin = t.Begin();
  const Effects begun = t.agent.Do(begin);
  CHECK(begun.StatusOf(begin.call) == absl::OkStatus());
  CHECK(begun.Told<WriteEvent>().at(0).kind == WriteEvent::Kind::kBegun);
  CHECK(begun.Of<TellVersion>().at(0).version == Version());
  CHECK(begun.Of<ForgetContent>().size() == 1);
  CHECK(t.Held().state == CopyState::kWriting);

  const EndWriteRequest end = t.End(7);
  const Effects ended = t.agent.Do(end);
  CHECK_FALSE(ended.StatusOf(end.call).has_value());
  CHECK(ended.Told<WriteEvent>().at(0).step == 7);
  CHECK(t.Held() == CopyInventory{CopyState::kPublished, Version(), {}, 7});
  SECTION("whose version comes with the ack") {
    const Effects acked = t.agent.Send(
        EventAck{ended.EventIdOf<WriteEvent>(), absl::OkStatus(), Version(2)});
    CHECK(acked.StatusOf(end.call) == absl::OkStatus());
    CHECK(acked.BodyOf<EndWriteReply>(end.call).version == Version(2));
    CHECK(acked.Of<TellVersion>().at(0).version == Version(2));
  }
  SECTION("whose version comes later") {
    const Effects acked = t.agent.Send(
        EventAck{ended.EventIdOf<WriteEvent>(), absl::OkStatus(), Version()});
    CHECK(acked.BodyOf<EndWriteReply>(end.call).version == Version());
    CHECK_THAT(t.agent.Ask(VersionAssignedCommand{t.src, 7, Version(2)}),
               IsOk());
  }
  CHECK(t.Held() == CopyInventory{CopyState::kPublished, Version(2), {}, 7});
}

TEST_CASE("a version of another step is not taken", "[agent][core]") {
  Trainer t;
  CHECK_OK(t.Open());
  t.agent.Do(t.End(7));
  CHECK_THAT(t.agent.Ask(VersionAssignedCommand{t.src, 6, Version(2)}),
             StatusIs(absl::StatusCode::kFailedPrecondition));
  CHECK_OK(t.Open());
  CHECK_THAT(t.agent.Ask(VersionAssignedCommand{t.src, 7, Version(2)}),
             StatusIs(absl::StatusCode::kFailedPrecondition));
  CHECK(t.Held().state == CopyState::kWriting);
}

TEST_CASE("brackets are refused to whoever may not write", "[agent][core]") {
  Trainer t;
  SECTION("a second bracket") {
    CHECK_THAT(t.Open(), IsOk());
    CHECK_THAT(t.Open(), StatusIs(absl::StatusCode::kFailedPrecondition));
  }
  SECTION("another worker's memory") {
    BeginWriteRequest begin = t.Begin();
    begin.session = t.agent.Attach("other");
    CHECK_THAT(*t.agent.Do(begin).StatusOf(begin.call),
               StatusIs(absl::StatusCode::kFailedPrecondition, "trainer"));
  }
  SECTION("an arena") {
    BeginWriteRequest begin = t.Begin();
    begin.placement = "dst";
    CHECK_THAT(*t.agent.Do(begin).StatusOf(begin.call),
               StatusIs(absl::StatusCode::kFailedPrecondition));
  }
  SECTION("nobody that is attached") {
    BeginWriteRequest begin = t.Begin();
    begin.session = SessionId(99);
    CHECK_THAT(*t.agent.Do(begin).StatusOf(begin.call),
               StatusIs(absl::StatusCode::kNotFound));
  }
  SECTION("an end without a beginning") {
    const EndWriteRequest end = t.End(1);
    CHECK_THAT(*t.agent.Do(end).StatusOf(end.call),
               StatusIs(absl::StatusCode::kFailedPrecondition));
  }
}

TEST_CASE("steps increase", "[agent][core]") {
  Trainer t;
  CHECK_OK(t.Open());
  t.agent.Do(t.End(7));
  CHECK_OK(t.Open());
  const EndWriteRequest same = t.End(7);
  CHECK_THAT(*t.agent.Do(same).StatusOf(same.call),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK(t.Held().state == CopyState::kWriting);  // the bracket is still open
  t.agent.Do(t.End(8));
  CHECK(t.Held().step == 8);
}

TEST_CASE("a bracket waits for the operations that read", "[agent][core]") {
  Trainer t;
  t.agent.SyncToVote(OperationId(20), t.src, t.dst, Version(1));
  const BeginWriteRequest begin = t.Begin();
  CHECK_FALSE(t.agent.Do(begin).StatusOf(begin.call).has_value());
  SECTION("until they are committed") {
    CHECK(t.agent.Send(CommitCommand{OperationId(20), Version(1)})
              .StatusOf(begin.call) == absl::OkStatus());
  }
  SECTION("until they are aborted and released") {
    const AbortCommand abort{OperationId(20), absl::AbortedError("test")};
    CHECK_FALSE(t.agent.Send(abort).StatusOf(begin.call).has_value());
    CHECK(t.agent.Send(ReleaseCommand{OperationId(20)}).StatusOf(begin.call) ==
          absl::OkStatus());
  }
  SECTION("until its deadline, which names them") {
    CHECK_THAT(*t.agent.Advance(absl::Seconds(3)).StatusOf(begin.call),
               StatusIs(absl::StatusCode::kDeadlineExceeded, "operation 20"));
    CHECK(t.Held().state == CopyState::kPublished);
  }
  SECTION("and no other read begins meanwhile") {
    const PlacementRef other = t.agent.Define("other", Storage::kArena);
    CHECK_THAT(t.agent.Ask(testing::Prepare(OperationId(21), t.src, {other},
                                            Version(1))),
               StatusIs(absl::StatusCode::kFailedPrecondition, "trainer"));
  }
  SECTION("or its caller goes") {
    t.agent.Do(CallerGoneEvent{begin.call});
    t.agent.Send(CommitCommand{OperationId(20), Version(1)});
    CHECK(t.Held().state == CopyState::kPublished);
  }
}

TEST_CASE("no sync reads inside a bracket", "[agent][core]") {
  Trainer t;
  CHECK_OK(t.Open());
  CHECK_THAT(t.agent.Ask(
                 testing::Prepare(OperationId(20), t.src, {t.dst}, Version(1))),
             StatusIs(absl::StatusCode::kFailedPrecondition, "trainer"));
}

TEST_CASE("a worker that dies inside its bracket leaves the copy torn",
          "[agent][core]") {
  Trainer t;
  CHECK_OK(t.Open());
  const Effects gone = t.agent.Do(SessionGoneEvent{t.session});
  CHECK(gone.Told<WriteEvent>().at(0).kind == WriteEvent::Kind::kTorn);
  CHECK(t.Held().state == CopyState::kTorn);
  // The next one writes it whole again.
  t.session = t.agent.Attach("trainer");
  t.agent.Lend(t.session, "src", Version());
  CHECK_THAT(t.Open(), IsOk());
  t.agent.Do(t.End(1));
  CHECK(t.Held().state == CopyState::kPublished);
}

TEST_CASE("a bracket's end is kept while the coordinator is away",
          "[agent][core]") {
  Trainer t;
  t.agent.Do(StreamDownEvent{});
  CHECK_THAT(t.Open(), IsOk());
  const EndWriteRequest end = t.End(7);
  CHECK_FALSE(t.agent.Do(end).StatusOf(end.call).has_value());
  CHECK_THAT(*t.agent.Advance(absl::Seconds(10)).StatusOf(end.call),
             StatusIs(absl::StatusCode::kUnavailable));
  // The same call again waits for the same news.
  const EndWriteRequest again = t.End(7);
  CHECK_FALSE(t.agent.Do(again).StatusOf(again.call).has_value());
  const Effects back = t.agent.Reconnect(Epoch(2));
  CHECK(back.Told<InventoryEvent>().at(0).placements.at(1).copies.at(0) ==
        CopyInventory{CopyState::kPublished, Version(), {}, 7});
  REQUIRE(back.Told<WriteEvent>().size() == 1);  // superseded ones are dropped
  CHECK(back.Told<WriteEvent>()[0].kind == WriteEvent::Kind::kEnded);
  const Effects acked = t.agent.Send(
      EventAck{back.EventIdOf<WriteEvent>(), absl::OkStatus(), Version(2)});
  CHECK(acked.BodyOf<EndWriteReply>(again.call).version == Version(2));
  // And once more, when it is known.
  const EndWriteRequest third = t.End(7);
  CHECK(t.agent.Do(third).BodyOf<EndWriteReply>(third.call).version ==
        Version(2));
}

TEST_CASE("an event is told again until it is acknowledged", "[agent][core]") {
  Trainer t;
  const BeginWriteRequest begin = t.Begin();
  const uint64_t id = t.agent.Do(begin).EventIdOf<WriteEvent>();
  CHECK(id > 0);
  CHECK(t.agent.Reconnect(Epoch(1)).EventIdOf<WriteEvent>() == id);
  t.agent.Send(EventAck{id, absl::OkStatus(), {}});
  CHECK(t.agent.Reconnect(Epoch(1)).EventIdOf<WriteEvent>() == 0);
}

TEST_CASE("a worker's name is attached once", "[agent][core]") {
  Trainer t;
  const CallId call = t.agent.NewCall();
  CHECK_THAT(*t.agent.Do(AttachRequest{call, "trainer", 2}).StatusOf(call),
             StatusIs(absl::StatusCode::kAlreadyExists, "trainer"));
  t.agent.Do(SessionGoneEvent{t.session});
  CHECK_THAT(*t.agent.Do(AttachRequest{call, "trainer", 2}).StatusOf(call),
             IsOk());
  CHECK_THAT(*t.agent.Do(AttachRequest{call, "", 2}).StatusOf(call),
             StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace sluice::agent
