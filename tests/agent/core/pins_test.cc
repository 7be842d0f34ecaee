// Readers: a pinned version stays, and never becomes another.

#include <catch2/catch.hpp>

#include "tests/agent/core/test_agent.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using sluice::testing::IsOk;
using sluice::testing::StatusIs;
using testing::Effects;
using testing::TestAgent;

const OperationId kSync(20);

// "dst" holds version 1; "src" version 2.
struct Reader {
  Reader() {
    src = agent.Define("src", Storage::kArena);
    dst = agent.Define("dst", Storage::kArena);
    agent.Load(dst, OperationId(1), Version(1));
    agent.Load(src, OperationId(2), Version(2));
    session = agent.Attach("reader");
  }
  PinRequest Pin(uint64_t version) {
    return {agent.NewCall(), session,          "m",
            "dst",           Version(version), absl::Seconds(2)};
  }

  TestAgent agent;
  PlacementRef src, dst;
  SessionId session;
};

TEST_CASE("a pin names version and place", "[agent][core]") {
  Reader t;
  const uint64_t asked = GENERATE(0, 1);
  const PinRequest pin = t.Pin(asked);
  const Effects effects = t.agent.Do(pin);
  CHECK(effects.StatusOf(pin.call) == absl::OkStatus());
  const PinReply reply = effects.BodyOf<PinReply>(pin.call);
  CHECK(reply.version == Version(1));
  CHECK(reply.bytes == testing::kCopyBytes);
  CHECK(reply.buffer != BufferId());
  const CallId unpin = t.agent.NewCall();
  CHECK_THAT(
      *t.agent.Do(UnpinRequest{unpin, t.session, reply.pin}).StatusOf(unpin),
      IsOk());
  CHECK_THAT(
      *t.agent.Do(UnpinRequest{unpin, t.session, reply.pin}).StatusOf(unpin),
      StatusIs(absl::StatusCode::kNotFound));
}

TEST_CASE("what is not held cannot be pinned", "[agent][core]") {
  Reader t;
  PinRequest pin = t.Pin(9);
  SECTION("a version that was never here") {}
  SECTION("another placement") { pin.placement = "x"; }
  SECTION("by somebody who is not attached") { pin.session = SessionId(99); }
  CHECK_THAT(*t.agent.Do(pin).StatusOf(pin.call),
             StatusIs(absl::StatusCode::kNotFound));
}

TEST_CASE("a pin of a staged version waits for the decision", "[agent][core]") {
  Reader t;
  t.agent.SyncToVote(kSync, t.src, t.dst, Version(2));
  const PinRequest pin = t.Pin(2);
  CHECK_FALSE(t.agent.Do(pin).StatusOf(pin.call).has_value());
  SECTION("and gets the committed one") {
    const Effects committed = t.agent.Send(CommitCommand{kSync, Version(2)});
    CHECK(committed.BodyOf<PinReply>(pin.call).version == Version(2));
  }
  SECTION("and gets none if it is aborted") {
    const Effects aborted =
        t.agent.Send(AbortCommand{kSync, absl::AbortedError("")});
    CHECK_THAT(*aborted.StatusOf(pin.call),
               StatusIs(absl::StatusCode::kNotFound, "version 2"));
  }
  SECTION("until its deadline") {
    t.agent.Do(StreamDownEvent{});
    CHECK_THAT(*t.agent.Advance(absl::Seconds(2)).StatusOf(pin.call),
               StatusIs(absl::StatusCode::kUnavailable));
  }
  SECTION("or until its worker goes") {
    CHECK_THAT(*t.agent.Do(SessionGoneEvent{t.session}).StatusOf(pin.call),
               StatusIs(absl::StatusCode::kCancelled));
  }
}

TEST_CASE("a pin of a loaded version waits, though the agent does not know it",
          "[agent][core]") {
  Reader t;
  t.agent.Must(LoadCommand{kSync, t.dst, "/c", absl::Minutes(1)});
  t.agent.Do(LoadDoneEvent{kSync, absl::OkStatus(), {}});
  const PinRequest pin = t.Pin(5);
  CHECK_FALSE(t.agent.Do(pin).StatusOf(pin.call).has_value());
  const Effects committed = t.agent.Send(CommitCommand{kSync, Version(5)});
  CHECK(committed.BodyOf<PinReply>(pin.call).version == Version(5));
}

TEST_CASE("the previous version can be pinned until it is overwritten",
          "[agent][core]") {
  Reader t;
  t.agent.SyncToVote(kSync, t.src, t.dst, Version(2));
  t.agent.Must(CommitCommand{kSync, Version(2)});
  const PinRequest old = t.Pin(1);
  const PinReply pinned = t.agent.Do(old).BodyOf<PinReply>(old.call);
  CHECK(pinned.version == Version(1));
  const PinRequest current = t.Pin(0);
  const PinReply second = t.agent.Do(current).BodyOf<PinReply>(current.call);
  CHECK(second.version == Version(2));
  CHECK(second.buffer != pinned.buffer);
  t.agent.Do(UnpinRequest{t.agent.NewCall(), t.session, pinned.pin});
  t.agent.SyncToVote(OperationId(21), t.src, t.dst, Version(2));
  const PinRequest late = t.Pin(1);
  CHECK_THAT(*t.agent.Do(late).StatusOf(late.call),
             StatusIs(absl::StatusCode::kNotFound));
}

TEST_CASE("versions are readable without a coordinator", "[agent][core]") {
  Reader t;
  t.agent.Do(StreamDownEvent{});
  t.agent.Advance(absl::Hours(1));
  const PinRequest pin = t.Pin(0);
  CHECK(t.agent.Do(pin).BodyOf<PinReply>(pin.call).version == Version(1));
}

TEST_CASE("a bracket waits for pins of lent memory, and none comes meanwhile",
          "[agent][core]") {
  Reader t;
  t.agent.Define("lent", Storage::kLent);
  const SessionId trainer = t.agent.Attach("trainer");
  t.agent.Lend(trainer, "lent", Version(3));
  PinRequest pin = t.Pin(3);
  pin.placement = "lent";
  const PinReply pinned = t.agent.Do(pin).BodyOf<PinReply>(pin.call);
  const BeginWriteRequest begin{t.agent.NewCall(), trainer, "m", "lent", {}};
  CHECK_FALSE(t.agent.Do(begin).StatusOf(begin.call).has_value());
  PinRequest late = t.Pin(3);
  late.placement = "lent";
  CHECK_THAT(*t.agent.Do(late).StatusOf(late.call),
             StatusIs(absl::StatusCode::kNotFound));
  CHECK(t.agent.Do(UnpinRequest{t.agent.NewCall(), t.session, pinned.pin})
            .StatusOf(begin.call) == absl::OkStatus());
}

}  // namespace
}  // namespace sluice::agent
