// Loads into lent memory begin when its worker knows that what it held ends.

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

// An agent with memory lent at version 3, and a load that was told to its
// worker.
struct Overwriting {
  Overwriting() {
    agent.answer_overwrites = false;
    src = agent.Define("src", Storage::kLent);
    session = agent.Attach("trainer");
    agent.Lend(session, "src", Version(3));
    const Effects effects =
        agent.Send(LoadCommand{kLoad, src, "/c", absl::Minutes(1)});
    load = agent.last_command();
    CHECK(effects.Of<StartLoad>().empty());
    CHECK_FALSE(effects.ResultOf(load).has_value());
    REQUIRE(effects.Of<TellVersion>().size() == 1);
    told = effects.Of<TellVersion>()[0];
  }

  AcknowledgeOverwriteRequest Acknowledgement(SessionId from) {
    return {agent.NewCall(), from, "m", "src", told.overwrite};
  }
  bool IsUntouched() {
    return agent.CopiesOf("src")[0] ==
           CopyInventory{CopyState::kPublished, Version(3), {}, 0};
  }

  TestAgent agent;
  PlacementRef src;
  SessionId session;
  CommandId load;
  TellVersion told;
};

// Found by simulation: a worker that missed the news lent the memory again,
// with the version that a load had overwritten, to the agent's next life.
TEST_CASE("no byte of lent memory changes before its worker knows",
          "[agent][core]") {
  Overwriting t;
  CHECK(t.told.lender == t.session);
  CHECK(t.told.version == Version());
  CHECK(t.told.overwrite != 0);
  CHECK(t.IsUntouched());
  const AcknowledgeOverwriteRequest known = t.Acknowledgement(t.session);
  const Effects effects = t.agent.Do(known);
  CHECK_THAT(*effects.StatusOf(known.call), IsOk());
  CHECK(effects.Of<StartLoad>().size() == 1);
  CHECK(effects.ResultOf(t.load) == absl::OkStatus());
  CHECK(t.agent.CopiesOf("src")[0].state == CopyState::kFilling);
}

TEST_CASE("only who lent the memory acknowledges, and what is the case",
          "[agent][core]") {
  Overwriting t;
  AcknowledgeOverwriteRequest request = t.Acknowledgement(t.session);
  SECTION("another worker") {
    request.session = t.agent.Attach("reader");
    CHECK_THAT(*t.agent.Do(request).StatusOf(request.call),
               StatusIs(absl::StatusCode::kFailedPrecondition));
  }
  SECTION("another number") {
    request.overwrite += 1;
    CHECK_THAT(*t.agent.Do(request).StatusOf(request.call), IsOk());
  }
  SECTION("another placement") {
    request.placement = "none";
    CHECK_THAT(*t.agent.Do(request).StatusOf(request.call),
               StatusIs(absl::StatusCode::kNotFound));
  }
  CHECK(t.IsUntouched());
}

TEST_CASE("a load ends when the worker leaves before it knows",
          "[agent][core]") {
  Overwriting t;
  const Effects effects = t.agent.Do(SessionGoneEvent{t.session});
  CHECK_THAT(*effects.ResultOf(t.load),
             StatusIs(absl::StatusCode::kFailedPrecondition, "trainer"));
  CHECK(t.IsUntouched());
  // Nor does a new one begin without it.
  CHECK_THAT(t.agent.Ask(LoadCommand{OperationId(31), t.src, "/c", {}}),
             StatusIs(absl::StatusCode::kFailedPrecondition, "left"));
  CHECK(t.IsUntouched());
}

TEST_CASE("a load that ends before it began gives the version back",
          "[agent][core]") {
  Overwriting t;
  const Effects effects =
      GENERATE(true, false)
          ? t.agent.Send(AbortCommand{kLoad, absl::AbortedError("")})
          : t.agent.Advance(absl::Minutes(10));
  CHECK(effects.Of<TellVersion>().at(0).version == Version(3));
  CHECK(effects.Of<TellVersion>().at(0).overwrite == 0);
  CHECK(t.IsUntouched());
}

TEST_CASE("a load that waits too long says for whom", "[agent][core]") {
  Overwriting t;
  const Effects effects = t.agent.Advance(absl::Minutes(10));
  CHECK_THAT(*effects.ResultOf(t.load),
             StatusIs(absl::StatusCode::kDeadlineExceeded, "trainer"));
}

TEST_CASE("what the worker writes meanwhile is told to end, too",
          "[agent][core]") {
  Overwriting t;
  const BeginWriteRequest begin{t.agent.NewCall(), t.session, "m", "src", {}};
  CHECK_THAT(*t.agent.Do(begin).StatusOf(begin.call), IsOk());
  // Of before the write: it says nothing of what was written.
  const Effects early = t.agent.Do(t.Acknowledgement(t.session));
  CHECK(early.Of<StartLoad>().empty());
  const EndWriteRequest end{t.agent.NewCall(), t.session, "m", "src", 1};
  const Effects ended = t.agent.Do(end);
  CHECK(ended.Of<StartLoad>().empty());
  REQUIRE(ended.Of<TellVersion>().size() == 1);
  CHECK(ended.Of<TellVersion>()[0].overwrite > t.told.overwrite);
  t.told = ended.Of<TellVersion>()[0];
  CHECK(t.agent.Do(t.Acknowledgement(t.session)).Of<StartLoad>().size() == 1);
}

}  // namespace
}  // namespace sluice::agent
