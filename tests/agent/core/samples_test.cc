// Samples: written once, known to the coordinator before the worker's answer,
// cleared at once and freed when nobody reads them.

#include <catch2/catch.hpp>

#include "tests/agent/core/test_agent.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent {
namespace {

using sluice::testing::IsOk;
using sluice::testing::StatusIs;
using testing::Effects;
using testing::Entry;
using testing::TestAgent;

const OperationId kMove(20);

struct Producer {
  Producer() { session = agent.Attach("producer"); }

  ReserveSamplesReply Reserve(std::vector<SampleEntry> entries) {
    const CallId call = agent.NewCall();
    return agent.Do(ReserveSamplesRequest{call, session, std::move(entries)})
        .BodyOf<ReserveSamplesReply>(call);
  }
  absl::Status TryReserve(std::vector<SampleEntry> entries) {
    const CallId call = agent.NewCall();
    return *agent.Do(ReserveSamplesRequest{call, session, std::move(entries)})
                .StatusOf(call);
  }
  // Puts samples and has them acknowledged.
  ReserveSamplesReply Put(std::vector<SampleEntry> entries) {
    const ReserveSamplesReply reply = Reserve(std::move(entries));
    const Effects told = agent.Do(
        CommitSamplesRequest{agent.NewCall(), session, reply.reservation});
    agent.Send(
        EventAck{told.EventIdOf<SamplesAddedEvent>(), absl::OkStatus(), {}});
    return reply;
  }
  absl::Status Get(std::vector<std::string> ids,
                   std::vector<std::string> keys = {}) {
    const CallId call = agent.NewCall();
    return *agent.Do(GetSamplesRequest{call, session, ids, keys})
                .StatusOf(call);
  }

  TestAgent agent;
  SessionId session;
};

// A move of one entry between rank 0 (this agent) and rank 1.
PrepareCommand Move(const SampleEntry& entry, std::vector<Rank> ranks) {
  TransferPlan plan;
  plan.entries = {entry};
  for (size_t i = 0; i + 1 < ranks.size(); ++i) {
    Transfer transfer;
    transfer.id = static_cast<uint32_t>(i);
    transfer.round = static_cast<int32_t>(i);
    transfer.kind = TransferKind::kSendRecv;
    transfer.source = ranks[i];
    transfer.destination = ranks[i + 1];
    transfer.bytes = entry.num_bytes();
    transfer.samples = {0};
    if (i > 0) transfer.reads_after = static_cast<uint32_t>(i - 1);
    plan.transfers.push_back(transfer);
  }
  return testing::Prepare(
      kMove, PlacementRef(), {}, Version(),
      std::make_shared<const PlanPart>(PartOf(plan, Rank(0))));
}

TEST_CASE("samples are visible when the coordinator knows them",
          "[agent][core]") {
  Producer t;
  const auto reply = t.Reserve({Entry("s1", "a", 3), Entry("s1", "b", 30)});
  REQUIRE(reply.places.size() == 2);
  for (const SamplePlace& place : reply.places) {
    CHECK(place.offset_bytes % 64 == 0);
  }
  const CallId commit = t.agent.NewCall();
  const Effects told =
      t.agent.Do(CommitSamplesRequest{commit, t.session, reply.reservation});
  CHECK_FALSE(told.StatusOf(commit).has_value());
  CHECK(told.Told<SamplesAddedEvent>().at(0).entries.size() == 2);
  CHECK_THAT(t.Get({"s1"}), StatusIs(absl::StatusCode::kNotFound));
  const Effects acked = t.agent.Send(
      EventAck{told.EventIdOf<SamplesAddedEvent>(), absl::OkStatus(), {}});
  CHECK(acked.StatusOf(commit) == absl::OkStatus());
  CHECK_THAT(t.Get({"s1"}), IsOk());
  CHECK_THAT(t.Get({"s1"}, {"b"}), IsOk());
  CHECK_THAT(t.Get({"s1"}, {"c"}),
             StatusIs(absl::StatusCode::kNotFound, "key c"));
  // A repeated commit, whose answer got lost.
  CHECK(t.agent.Do(CommitSamplesRequest{commit, t.session, reply.reservation})
            .StatusOf(commit) == absl::OkStatus());
}

TEST_CASE("samples the coordinator refuses are dropped", "[agent][core]") {
  Producer t;
  const auto reply = t.Reserve({Entry("s1", "a", 3)});
  const CallId commit = t.agent.NewCall();
  const Effects told =
      t.agent.Do(CommitSamplesRequest{commit, t.session, reply.reservation});
  const Effects acked =
      t.agent.Send(EventAck{told.EventIdOf<SamplesAddedEvent>(),
                            absl::InvalidArgumentError("other shape"),
                            {}});
  CHECK_THAT(*acked.StatusOf(commit),
             StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK(acked.Of<FreeBuffer>().size() == 1);
  CHECK_THAT(t.TryReserve({Entry("s1", "a", 3)}), IsOk());
}

TEST_CASE("a commit without a coordinator is kept and can be repeated",
          "[agent][core]") {
  Producer t;
  const auto reply = t.Reserve({Entry("s1", "a", 3)});
  t.agent.Do(StreamDownEvent{});
  const CallId first = t.agent.NewCall();
  t.agent.Do(CommitSamplesRequest{first, t.session, reply.reservation});
  CHECK_THAT(*t.agent.Advance(absl::Seconds(10)).StatusOf(first),
             StatusIs(absl::StatusCode::kUnavailable));
  const CallId second = t.agent.NewCall();
  t.agent.Do(CommitSamplesRequest{second, t.session, reply.reservation});
  const Effects back = t.agent.Reconnect(Epoch(2));
  // A coordinator that has seen the event already looks at the inventory only.
  CHECK(back.Told<InventoryEvent>().at(0).samples ==
        std::vector{Entry("s1", "a", 3)});
  const Effects acked = t.agent.Send(
      EventAck{back.EventIdOf<SamplesAddedEvent>(), absl::OkStatus(), {}});
  CHECK(acked.StatusOf(second) == absl::OkStatus());
  CHECK_THAT(t.Get({"s1"}), IsOk());
}

TEST_CASE("bad reservations are refused by name", "[agent][core]") {
  Producer t;
  t.Put({Entry("held", "a", 3)});
  t.Reserve({Entry("reserved", "a", 3)});
  SampleEntry negative = Entry("s1", "a", -1);
  SampleEntry huge = Entry("s1", "a", int64_t{1} << 61);
  CHECK_THAT(t.TryReserve({}), StatusIs(absl::StatusCode::kInvalidArgument));
  CHECK_THAT(t.TryReserve({Entry("held", "a", 3)}),
             StatusIs(absl::StatusCode::kAlreadyExists, "held"));
  CHECK_THAT(t.TryReserve({Entry("reserved", "a", 3)}),
             StatusIs(absl::StatusCode::kAlreadyExists, "reserved"));
  CHECK_THAT(t.TryReserve({Entry("s1", "a", 3), Entry("s1", "a", 3)}),
             StatusIs(absl::StatusCode::kInvalidArgument, "s1"));
  CHECK_THAT(t.TryReserve({negative}),
             StatusIs(absl::StatusCode::kInvalidArgument, "s1"));
  CHECK_THAT(t.TryReserve({huge}),
             StatusIs(absl::StatusCode::kInvalidArgument, "s1"));
  CHECK_THAT(t.TryReserve({Entry("held", "b", 3)}), IsOk());
}

TEST_CASE("too many bytes are refused with what is needed and free",
          "[agent][core]") {
  AgentOptions options = testing::TestOptions();
  options.memory_bytes = 8192;
  Producer t;
  t.agent = TestAgent(options);
  t.session = t.agent.Attach("producer");
  // 4 bytes each: 6400 of 8192 bytes.
  t.Put({Entry("s1", "a", 1600)});
  CHECK_THAT(t.TryReserve({Entry("s2", "a", 16), Entry("s3", "a", 1600)}),
             StatusIs(absl::StatusCode::kResourceExhausted, "6464"));
  CHECK_THAT(t.TryReserve({Entry("s2", "a", 16)}), IsOk());
}

TEST_CASE("a reservation waits for its memory", "[agent][core]") {
  Producer t;
  t.agent.answer_allocations = false;
  const CallId call = t.agent.NewCall();
  const Effects reserved =
      t.agent.Do(ReserveSamplesRequest{call, t.session, {Entry("s1", "a", 3)}});
  REQUIRE(reserved.Of<AllocateBuffer>().size() == 1);
  CHECK_FALSE(reserved.StatusOf(call).has_value());
  const BufferId buffer = reserved.Of<AllocateBuffer>()[0].buffer;
  SECTION("and gets it") {
    CHECK(t.agent.Do(BufferAllocatedEvent{buffer, absl::OkStatus()})
              .StatusOf(call) == absl::OkStatus());
  }
  SECTION("and is dropped if there is none") {
    CHECK_THAT(*t.agent
                    .Do(BufferAllocatedEvent{
                        buffer, absl::ResourceExhaustedError("pages")})
                    .StatusOf(call),
               StatusIs(absl::StatusCode::kResourceExhausted));
    t.agent.answer_allocations = true;
    CHECK_THAT(t.TryReserve({Entry("s1", "a", 3)}), IsOk());
  }
  SECTION("and is dropped with its caller, the memory once it is there") {
    CHECK(t.agent.Do(CallerGoneEvent{call}).Of<FreeBuffer>().empty());
    CHECK(t.agent.Do(BufferAllocatedEvent{buffer, absl::OkStatus()})
              .Of<FreeBuffer>()
              .size() == 1);
  }
}

TEST_CASE("what a dead worker reserved is dropped, what it committed is not",
          "[agent][core]") {
  Producer t;
  t.Reserve({Entry("reserved", "a", 3)});
  const auto reply = t.Reserve({Entry("committed", "a", 3)});
  const Effects told = t.agent.Do(
      CommitSamplesRequest{t.agent.NewCall(), t.session, reply.reservation});
  t.agent.Do(SessionGoneEvent{t.session});
  t.agent.Send(
      EventAck{told.EventIdOf<SamplesAddedEvent>(), absl::OkStatus(), {}});
  t.session = t.agent.Attach("producer");
  CHECK_THAT(t.Get({"committed"}), IsOk());
  CHECK_THAT(t.TryReserve({Entry("reserved", "a", 3)}), IsOk());
}

TEST_CASE("a cleared sample is invisible at once and freed at the commit",
          "[agent][core]") {
  Producer t;
  const SampleEntry entry = Entry("s1", "a", 3);
  t.Put({entry});
  CHECK_THAT(t.agent.Ask(Move(entry, {Rank(0), Rank(1)})), IsOk());
  t.agent.Must(ExecuteCommand{kMove});
  const Effects cleared = t.agent.Send(ClearSamplesCommand{{"s1"}, {}});
  CHECK(cleared.Of<FreeBuffer>().empty());
  CHECK_THAT(t.Get({"s1"}), StatusIs(absl::StatusCode::kNotFound));
  const ExecutionDoneEvent done{kMove, absl::OkStatus(), {}, kNoRank};
  CHECK(t.agent.Do(done).Of<FreeBuffer>().empty());
  const Effects committed = t.agent.Send(CommitCommand{kMove, {}});
  CHECK(committed.Of<FreeBuffer>().size() == 1);
}

TEST_CASE("keys are cleared alone", "[agent][core]") {
  Producer t;
  t.Put({Entry("s1", "a", 3), Entry("s1", "b", 3), Entry("s2", "a", 3)});
  t.agent.Must(ClearSamplesCommand{{"s1", "unknown"}, {"a"}});
  CHECK_THAT(t.Get({"s1"}, {"a"}), StatusIs(absl::StatusCode::kNotFound));
  CHECK_THAT(t.Get({"s1"}, {"b"}), IsOk());
  CHECK_THAT(t.Get({"s2"}, {"a"}), IsOk());
}

TEST_CASE("received samples are visible with the commit", "[agent][core]") {
  Producer t;
  const SampleEntry entry = Entry("s1", "a", 3);
  CHECK_THAT(t.agent.Ask(Move(entry, {Rank(1), Rank(0)})), IsOk());
  t.agent.Must(ExecuteCommand{kMove});
  t.agent.Do(ExecutionDoneEvent{kMove, absl::OkStatus(), {}, kNoRank});
  CHECK_THAT(t.Get({"s1"}), StatusIs(absl::StatusCode::kNotFound));
  SECTION("and stay") {
    t.agent.Must(CommitCommand{kMove, {}});
    CHECK_THAT(t.Get({"s1"}), IsOk());
    CHECK(t.agent.Inventory().owned == std::vector<bool>{false});
  }
  SECTION("and are dropped on an abort") {
    t.agent.Send(AbortCommand{kMove, absl::AbortedError("")});
    CHECK(t.agent.Send(ReleaseCommand{kMove}).Of<FreeBuffer>().size() == 1);
    CHECK_THAT(t.Get({"s1"}), StatusIs(absl::StatusCode::kNotFound));
  }
}

TEST_CASE("a sample that comes back lands beside the one that is read",
          "[agent][core]") {
  Producer t;
  const SampleEntry entry = Entry("s1", "a", 3);
  const auto put = t.Put({entry});
  const Effects prepared =
      t.agent.Send(Move(entry, {Rank(0), Rank(1), Rank(0)}));
  const auto order = prepared.Of<PrepareExecution>().at(0);
  CHECK(order.samples.at(0).offset_bytes == put.places[0].offset_bytes);
  REQUIRE(order.landings.at(0).has_value());
  CHECK((order.landings[0]->buffer != put.places[0].buffer ||
         order.landings[0]->offset_bytes != put.places[0].offset_bytes));
  t.agent.Must(ExecuteCommand{kMove});
  t.agent.Do(ExecutionDoneEvent{kMove, absl::OkStatus(), {}, kNoRank});
  t.agent.Must(CommitCommand{kMove, {}});
  // The first one stays, and is still owned.
  CHECK(t.agent.Inventory().owned == std::vector<bool>{true});
}

TEST_CASE("a move of what is not here is refused by name", "[agent][core]") {
  Producer t;
  CHECK_THAT(t.agent.Ask(Move(Entry("s1", "a", 3), {Rank(0), Rank(1)})),
             StatusIs(absl::StatusCode::kFailedPrecondition, "s1"));
  t.Put({Entry("s1", "a", 4)});
  CHECK_THAT(t.agent.Ask(Move(Entry("s1", "a", 3), {Rank(0), Rank(1)})),
             StatusIs(absl::StatusCode::kFailedPrecondition, "s1"));
  CHECK(t.agent.Inventory().operations.empty());
}

TEST_CASE("a move without room is refused before anything is allocated",
          "[agent][core]") {
  AgentOptions options = testing::TestOptions();
  options.memory_bytes = 4096;
  TestAgent agent(options);
  const Effects refused =
      agent.Send(Move(Entry("s1", "a", 2000), {Rank(1), Rank(0)}));
  CHECK_THAT(*refused.ResultOf(agent.last_command()),
             StatusIs(absl::StatusCode::kResourceExhausted, "8000"));
  CHECK(refused.Of<AllocateBuffer>().empty());
}

TEST_CASE("an operation may use a sample before its ack arrived",
          "[agent][core]") {
  Producer t;
  const SampleEntry entry = Entry("s1", "a", 3);
  const auto reply = t.Reserve({entry});
  const Effects told = t.agent.Do(
      CommitSamplesRequest{t.agent.NewCall(), t.session, reply.reservation});
  CHECK_THAT(t.agent.Ask(Move(entry, {Rank(0), Rank(1)})), IsOk());
  // Cleared before the ack: it does not come back with it.
  t.agent.Must(ClearSamplesCommand{{"s1"}, {}});
  t.agent.Send(
      EventAck{told.EventIdOf<SamplesAddedEvent>(), absl::OkStatus(), {}});
  CHECK_THAT(t.Get({"s1"}), StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace sluice::agent
