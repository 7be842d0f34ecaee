// Definitions: memory is checked before it is allocated, and given back only
// when nothing touches it.

#include <catch2/catch.hpp>

#include "tests/agent/core/test_agent.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using sluice::testing::IsOk;
using sluice::testing::StatusIs;
using testing::Effects;
using testing::TestAgent;

TEST_CASE("an arena placement gets two copies", "[agent][core]") {
  TestAgent agent;
  agent.answer_allocations = false;
  const Effects defined = agent.Send(
      DefinePlacementCommand{testing::Definition("dst", Storage::kArena, 1)});
  const CommandId id = agent.last_command();
  const auto allocated = defined.Of<AllocateBuffer>();
  REQUIRE(allocated.size() == 2);
  CHECK(allocated[0].bytes >= testing::kCopyBytes);
  CHECK(allocated[0].buffer != allocated[1].buffer);
  CHECK(allocated[0].use == BufferUse::kFirstCopy);
  CHECK(allocated[1].use == BufferUse::kSecondCopy);
  CHECK_FALSE(defined.ResultOf(id).has_value());
  agent.Do(BufferAllocatedEvent{allocated[0].buffer, absl::OkStatus()});
  const Effects ready =
      agent.Do(BufferAllocatedEvent{allocated[1].buffer, absl::OkStatus()});
  CHECK(ready.ResultOf(id) == absl::OkStatus());
  CHECK(agent.CopiesOf("dst").size() == 2);
}

TEST_CASE("a placement on the host has both copies there", "[agent][core]") {
  TestAgent agent;
  const Effects defined = agent.Send(DefinePlacementCommand{
      testing::Definition("offloaded", Storage::kHostArena, 1)});
  const auto allocated = defined.Of<AllocateBuffer>();
  REQUIRE(allocated.size() == 2);
  CHECK(allocated[0].use == BufferUse::kHostCopy);
  CHECK(allocated[1].use == BufferUse::kHostCopy);
}

TEST_CASE("the same generation again has no effect", "[agent][core]") {
  TestAgent agent;
  const PlacementRef dst = agent.Define("dst", Storage::kArena);
  agent.Load(dst, OperationId(1), Version(4));
  const Effects again = agent.Send(
      DefinePlacementCommand{testing::Definition("dst", Storage::kArena, 1)});
  CHECK(again.ResultOf(agent.last_command()) == absl::OkStatus());
  CHECK(again.Of<AllocateBuffer>().empty());
  CHECK(again.Of<FreeBuffer>().empty());
  CHECK(agent.CopiesOf("dst")[0].version == Version(4));
}

TEST_CASE("too little memory is refused before anything is allocated",
          "[agent][core]") {
  AgentOptions options = testing::TestOptions();
  options.memory_bytes = 511;  // two copies of 256 do not fit
  TestAgent agent(options);
  const Effects refused = agent.Send(
      DefinePlacementCommand{testing::Definition("dst", Storage::kArena, 1)});
  CHECK_THAT(*refused.ResultOf(agent.last_command()),
             StatusIs(absl::StatusCode::kResourceExhausted, "512"));
  CHECK(refused.Of<AllocateBuffer>().empty());
  // Lent memory is not the agent's.
  CHECK_THAT(agent.Ask(DefinePlacementCommand{
                 testing::Definition("src", Storage::kLent, 1)}),
             IsOk());
}

TEST_CASE("a failed allocation refuses the placement and frees the rest",
          "[agent][core]") {
  TestAgent agent;
  agent.answer_allocations = false;
  const auto allocated = agent
                             .Send(DefinePlacementCommand{testing::Definition(
                                 "dst", Storage::kArena, 1)})
                             .Of<AllocateBuffer>();
  const CommandId id = agent.last_command();
  agent.Do(BufferAllocatedEvent{allocated[0].buffer, absl::OkStatus()});
  const Effects failed = agent.Do(BufferAllocatedEvent{
      allocated[1].buffer, absl::ResourceExhaustedError("no pages")});
  CHECK_THAT(*failed.ResultOf(id),
             StatusIs(absl::StatusCode::kResourceExhausted));
  REQUIRE(failed.Of<FreeBuffer>().size() == 1);
  CHECK(failed.Of<FreeBuffer>()[0].buffer == allocated[0].buffer);
  CHECK(agent.CopiesOf("dst").empty());
  // Its memory is free again.
  agent.answer_allocations = true;
  agent.Define("dst", Storage::kArena, 2);
}

TEST_CASE("a layout that does not fit is refused and the old one stays",
          "[agent][core]") {
  TestAgent agent;
  agent.Define("dst", Storage::kArena);
  PlacementDefinition bad = testing::Definition("dst", Storage::kArena, 2);
  bad.layout = std::make_shared<const Layout>();  // no rule for "w"
  CHECK_THAT(agent.Ask(DefinePlacementCommand{bad}),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK(agent.Inventory().placements.at(0).placement.generation == 1);
}

TEST_CASE("a new generation frees the old memory when its pin is gone",
          "[agent][core]") {
  TestAgent agent;
  const PlacementRef dst = agent.Define("dst", Storage::kArena);
  agent.Load(dst, OperationId(1), Version(1));
  const SessionId session = agent.Attach("reader");
  PinRequest pin;
  pin.call = agent.NewCall();
  pin.session = session;
  pin.model = "m";
  pin.placement = "dst";
  const PinReply pinned = agent.Do(pin).BodyOf<PinReply>(pin.call);

  const Effects replaced = agent.Send(
      DefinePlacementCommand{testing::Definition("dst", Storage::kArena, 2)});
  // The copy that nobody pins goes at once.
  REQUIRE(replaced.Of<FreeBuffer>().size() == 1);
  CHECK(replaced.Of<FreeBuffer>()[0].buffer != pinned.buffer);
  CHECK(replaced.Of<TellVersion>().at(0).version == Version());
  const Effects unpinned =
      agent.Do(UnpinRequest{agent.NewCall(), session, pinned.pin});
  REQUIRE(unpinned.Of<FreeBuffer>().size() == 1);
  CHECK(unpinned.Of<FreeBuffer>()[0].buffer == pinned.buffer);
}

TEST_CASE("a removed placement's memory outlives the operation that reads it",
          "[agent][core]") {
  TestAgent agent;
  const PlacementRef src = agent.Define("src", Storage::kArena);
  const PlacementRef dst = agent.Define("dst", Storage::kArena);
  agent.Load(src, OperationId(1), Version(1));
  agent.Must(testing::Prepare(OperationId(2), src, {dst}, Version(1)));
  agent.Must(ExecuteCommand{OperationId(2)});
  const Effects removed = agent.Send(RemovePlacementCommand{src});
  CHECK(removed.ResultOf(agent.last_command()) == absl::OkStatus());
  CHECK(removed.Of<FreeBuffer>().size() == 1);  // the empty copy
  CHECK(
      agent
          .Do(ExecutionDoneEvent{OperationId(2), absl::OkStatus(), {}, kNoRank})
          .Of<FreeBuffer>()
          .empty());
  const Effects committed =
      agent.Send(CommitCommand{OperationId(2), Version(1)});
  CHECK(committed.Of<ReleaseExecution>().size() == 1);
  CHECK(committed.Of<FreeBuffer>().size() == 1);
}

TEST_CASE("removing what is not there is answered OK", "[agent][core]") {
  TestAgent agent;
  agent.Define("dst", Storage::kArena, 2);
  CHECK_THAT(agent.Ask(RemovePlacementCommand{{"m", "none", 1}}), IsOk());
  // Another generation is meant.
  CHECK_THAT(agent.Ask(RemovePlacementCommand{{"m", "dst", 1}}), IsOk());
  CHECK(agent.CopiesOf("dst").size() == 2);
}

TEST_CASE("a worker is told what the agent holds", "[agent][core]") {
  TestAgent agent;
  const PlacementRef dst = agent.Define("dst", Storage::kArena);
  agent.Load(dst, OperationId(1), Version(6));
  const CallId call = agent.NewCall();
  const auto reply = agent.Do(GetPlacementRequest{call, "m", "dst"})
                         .BodyOf<GetPlacementReply>(call);
  CHECK(reply.ref == dst);
  CHECK(reply.version == Version(6));
  CHECK(reply.layout->buffer_bytes == testing::kCopyBytes);
  const CallId unknown = agent.NewCall();
  CHECK_THAT(
      *agent.Do(GetPlacementRequest{unknown, "m", "x"}).StatusOf(unknown),
      StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace sluice::agent
