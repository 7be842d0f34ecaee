// Who may command the agent, and that nothing is executed twice or forgotten
// over broken streams and new coordinators.

#include <catch2/catch.hpp>

#include "tests/agent/core/test_agent.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using sluice::testing::IsOk;
using sluice::testing::StatusIs;
using testing::Effects;
using testing::TestAgent;

Effects Welcome(TestAgent& agent, Epoch epoch, const std::string& cluster,
                Rank rank, Incarnation incarnation) {
  agent.Do(StreamUpEvent{});
  return agent.Do(CommandEvent{Command{
      CommandId(1), epoch, WelcomeCommand{cluster, rank, incarnation}}});
}

TEST_CASE("a welcome that means another agent closes the stream",
          "[agent][core]") {
  struct Row {
    std::string what;
    Epoch epoch;
    std::string cluster;
    Rank rank;
    Incarnation incarnation;
  };
  const auto row = GENERATE(values<Row>({
      {"an older epoch", Epoch(1), "cluster", Rank(0), Incarnation(77)},
      {"another cluster", Epoch(3), "other", Rank(0), Incarnation(77)},
      {"another rank", Epoch(3), "cluster", Rank(4), Incarnation(77)},
      {"another life", Epoch(3), "cluster", Rank(0), Incarnation(78)},
  }));
  CAPTURE(row.what);
  TestAgent agent;
  agent.Reconnect(Epoch(2));
  const Effects effects =
      Welcome(agent, row.epoch, row.cluster, row.rank, row.incarnation);
  REQUIRE(effects.Of<CloseStream>().size() == 1);
  CHECK_THAT(effects.Of<CloseStream>()[0].reason,
             StatusIs(absl::StatusCode::kAborted));
  CHECK(effects.Of<SendEvent>().empty());
}

TEST_CASE("a command before the welcome closes the stream", "[agent][core]") {
  TestAgent agent;
  agent.Do(StreamDownEvent{});
  agent.Do(StreamUpEvent{});
  const Effects effects = agent.Send(SetPeersCommand{});
  REQUIRE(effects.Of<CloseStream>().size() == 1);
  CHECK_THAT(effects.Of<CloseStream>()[0].reason,
             StatusIs(absl::StatusCode::kFailedPrecondition));
  CHECK(effects.Of<SetPeers>().empty());
}

TEST_CASE("commands of an older epoch are not executed", "[agent][core]") {
  TestAgent agent;
  agent.Reconnect(Epoch(5));
  agent.epoch = Epoch(4);
  const Effects old = agent.Send(SetPeersCommand{});
  CHECK(old.Of<CloseStream>().size() == 1);
  CHECK(old.Of<SetPeers>().empty());
  // What else is on that stream is dropped, of whatever epoch.
  agent.epoch = Epoch(5);
  CHECK(agent.Send(SetPeersCommand{}).all.empty());
  // The present coordinator opens another stream.
  agent.Reconnect(Epoch(5));
  CHECK(agent.Send(SetPeersCommand{}).Of<SetPeers>().size() == 1);
}

TEST_CASE("a welcome that comes before the answer to Register is accepted",
          "[agent][core]") {
  TestAgent agent = TestAgent::Fresh();
  const Effects effects =
      Welcome(agent, Epoch(1), "cluster", Rank(3), Incarnation(77));
  CHECK(effects.Told<InventoryEvent>().size() == 1);
  // It names the cluster and the rank from then on.
  CHECK(Welcome(agent, Epoch(1), "other", Rank(3), Incarnation(77))
            .Of<CloseStream>()
            .size() == 1);
}

TEST_CASE("the inventory comes before the answer and in pages",
          "[agent][core]") {
  AgentOptions options = testing::TestOptions();
  options.max_entries_per_inventory = 2;
  TestAgent agent(options);
  agent.Define("dst", Storage::kArena);
  const SessionId session = agent.Attach("w");
  const CallId reserve = agent.NewCall();
  std::vector<SampleEntry> entries;
  for (const char* id : {"s1", "s2", "s3", "s4", "s5"}) {
    entries.push_back(testing::Entry(id, "k", 4));
  }
  const Effects reserved =
      agent.Do(ReserveSamplesRequest{reserve, session, entries});
  const Effects committed = agent.Do(CommitSamplesRequest{
      agent.NewCall(), session,
      reserved.BodyOf<ReserveSamplesReply>(reserve).reservation});
  agent.Send(
      EventAck{committed.EventIdOf<SamplesAddedEvent>(), absl::OkStatus(), {}});

  const Effects effects = agent.Reconnect(Epoch(1));
  const auto pages = effects.Told<InventoryEvent>();
  REQUIRE(pages.size() == 3);  // 2 + 2 + 1 samples
  CHECK(pages[0].more);
  CHECK(pages[1].more);
  CHECK_FALSE(pages[2].more);
  CHECK(pages[0].placements.size() == 1);
  CHECK(pages[1].placements.empty());
  CHECK(pages[2].samples == std::vector{testing::Entry("s5", "k", 4)});
  CHECK(pages[2].owned == std::vector<bool>{true});
  CHECK(pages[0].workers == std::vector<std::string>{"w"});
  const auto sent = effects.Of<SendEvent>();
  CHECK(std::holds_alternative<InventoryEvent>(sent.front().event.body));
  CHECK(std::holds_alternative<CommandResult>(sent.back().event.body));
  CHECK(sent.front().event.incarnation == Incarnation(77));
}

TEST_CASE("a repeated command is answered again and not executed again",
          "[agent][core]") {
  TestAgent agent;
  const Effects first = agent.Send(SetPeersCommand{});
  CHECK(first.Of<SetPeers>().size() == 1);
  const Effects again =
      agent.SendAgain(agent.last_command(), SetPeersCommand{});
  CHECK(again.Of<SetPeers>().empty());
  CHECK(again.ResultOf(agent.last_command()) == absl::OkStatus());
}

TEST_CASE("a refusal is repeated too", "[agent][core]") {
  TestAgent agent;
  const Effects first = agent.Send(ExecuteCommand{OperationId(9)});
  const CommandId id = agent.last_command();
  CHECK_THAT(*first.ResultOf(id), StatusIs(absl::StatusCode::kNotFound));
  CHECK_THAT(*agent.SendAgain(id, ExecuteCommand{OperationId(9)}).ResultOf(id),
             StatusIs(absl::StatusCode::kNotFound));
}

TEST_CASE("a command of a broken stream is answered on the next one",
          "[agent][core]") {
  TestAgent agent;
  const PlacementRef src = agent.Define("src", Storage::kArena);
  const PlacementRef dst = agent.Define("dst", Storage::kArena);
  agent.Load(src, OperationId(1), Version(1));
  agent.answer_prepares = false;
  const auto prepare = testing::Prepare(OperationId(2), src, {dst}, Version(1));
  agent.Send(prepare);
  const CommandId id = agent.last_command();
  agent.Do(StreamDownEvent{});

  SECTION("sent again while it runs") {
    agent.Reconnect(Epoch(1));
    CHECK_FALSE(agent.SendAgain(id, prepare).ResultOf(id).has_value());
    const Effects prepared =
        agent.Do(ExecutionPreparedEvent{OperationId(2), absl::OkStatus()});
    CHECK(prepared.ResultOf(id) == absl::OkStatus());
  }
  SECTION("sent again after it ended") {
    agent.Do(ExecutionPreparedEvent{OperationId(2), absl::OkStatus()});
    agent.Reconnect(Epoch(1));
    const Effects again = agent.SendAgain(id, prepare);
    CHECK(again.ResultOf(id) == absl::OkStatus());
    CHECK(again.Of<PrepareExecution>().empty());
  }
}

TEST_CASE("nothing is told while the coordinator is away, and votes after it",
          "[agent][core]") {
  TestAgent agent;
  const PlacementRef src = agent.Define("src", Storage::kArena);
  const PlacementRef dst = agent.Define("dst", Storage::kArena);
  agent.Load(src, OperationId(1), Version(1));
  agent.Must(testing::Prepare(OperationId(2), src, {dst}, Version(1)));
  agent.Must(ExecuteCommand{OperationId(2)});
  agent.Do(StreamDownEvent{});
  CHECK(
      agent
          .Do(ExecutionDoneEvent{OperationId(2), absl::OkStatus(), {}, kNoRank})
          .Of<SendEvent>()
          .empty());
  const Effects back = agent.Reconnect(Epoch(1));
  const InventoryEvent inventory = back.Told<InventoryEvent>().at(0);
  CHECK(inventory.operations == std::vector{OperationId(2)});
  CHECK(inventory.undecided == std::vector{OperationId(2)});
  REQUIRE(back.Told<VoteEvent>().size() == 1);
  CHECK_THAT(back.Told<VoteEvent>()[0].outcome, IsOk());
}

TEST_CASE("a new epoch ends what has not voted and keeps what has",
          "[agent][core]") {
  TestAgent agent;
  const PlacementRef src = agent.Define("src", Storage::kArena);
  const PlacementRef a = agent.Define("a", Storage::kArena);
  const PlacementRef b = agent.Define("b", Storage::kArena);
  agent.Load(src, OperationId(1), Version(1));
  agent.SyncToVote(OperationId(2), src, a, Version(1));
  agent.Must(testing::Prepare(OperationId(3), src, {b}, Version(1)));
  agent.Must(ExecuteCommand{OperationId(3)});

  const Effects welcome = agent.Reconnect(Epoch(2));
  CHECK(welcome.Told<InventoryEvent>().at(0).undecided ==
        std::vector{OperationId(2)});
  REQUIRE(welcome.Of<AbortExecution>().size() == 1);
  CHECK(welcome.Of<AbortExecution>()[0].operation == OperationId(3));
  const Effects done = agent.Do(
      ExecutionDoneEvent{OperationId(3), absl::AbortedError(""), {}, kNoRank});
  REQUIRE(done.Told<VoteEvent>().size() == 1);
  CHECK_THAT(done.Told<VoteEvent>()[0].outcome,
             StatusIs(absl::StatusCode::kAborted));
  // The new coordinator decides the other.
  CHECK_THAT(agent.Ask(CommitCommand{OperationId(2), Version(1)}), IsOk());
  CHECK(agent.CopiesOf("a")[0].version == Version(1));
}

TEST_CASE("the same epoch on a new stream aborts nothing", "[agent][core]") {
  TestAgent agent;
  const PlacementRef src = agent.Define("src", Storage::kArena);
  const PlacementRef dst = agent.Define("dst", Storage::kArena);
  agent.Load(src, OperationId(1), Version(1));
  agent.Must(testing::Prepare(OperationId(2), src, {dst}, Version(1)));
  agent.Must(ExecuteCommand{OperationId(2)});
  CHECK(agent.Do(StreamDownEvent{}).Of<AbortExecution>().empty());
  CHECK(agent.Reconnect(Epoch(1)).Of<AbortExecution>().empty());
  CHECK(agent.Advance(absl::Seconds(29)).Of<AbortExecution>().empty());
}

}  // namespace
}  // namespace sluice::agent
