// The small parts of the core by themselves.

#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"
#include "coordinator/core/command_outbox.h"
#include "coordinator/core/core_options.h"
#include "coordinator/core/decision_ledger.h"
#include "coordinator/core/durable_log.h"
#include "coordinator/core/event_log.h"
#include "coordinator/core/id_allocator.h"
#include "coordinator/core/outcomes.h"
#include "coordinator/core/placement.h"
#include "coordinator/core/plan_cache.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using ::sluice::testing::StatusIs;

// A context at a time, and the effects collected since the last call.
struct Fixture {
  Fixture() : context(CoreOptions{}) {
    context.now = absl::FromUnixSeconds(1000);
  }
  template <typename E>
  std::vector<E> Take() {
    std::vector<E> taken;
    for (const Effect& effect : context.effects) {
      if (const E* e = std::get_if<E>(&effect)) taken.push_back(*e);
    }
    context.effects.clear();
    return taken;
  }

  CoreContext context;
};

AgentRecord Record1(bool gone) { return {"a0", Rank(0), "node", gone}; }

TEST_CASE("options out of bounds are named", "[core]") {
  CoreOptions options;
  CHECK_OK(options.Validate());
  std::string field;
  SECTION("lease") {
    options.lease = absl::Milliseconds(1);
    field = "lease";
  }
  SECTION("heartbeat") {
    options.heartbeat_interval = options.lease;
    field = "heartbeat_interval";
  }
  SECTION("grace") {
    options.suspect_grace = 2 * options.lease;
    field = "suspect_grace";
  }
  SECTION("agents") {
    options.max_agents = 0;
    field = "max_agents";
  }
  SECTION("events") {
    options.max_kept_events = 0;
    field = "max_kept_events";
  }
  CHECK_THAT(options.Validate(),
             StatusIs(absl::StatusCode::kInvalidArgument, field));
}

TEST_CASE("a full disk fails who waits and delays the rest", "[core]") {
  Fixture f;
  DurableLog log(f.context);
  absl::Status waited;
  log.Write({Record1(false)}, [&](const absl::Status& s) { waited = s; });
  log.WriteUntilDone({Record1(true)});
  const absl::Status full = absl::ResourceExhaustedError("full");
  log.OnPersisted({1, full});
  log.OnPersisted({2, full});
  CHECK_THAT(waited, StatusIs(absl::StatusCode::kResourceExhausted));
  CHECK_FALSE(log.Idle());
  f.Take<Persist>();
  SECTION("it is tried again") {
    log.Retry();
    const auto again = f.Take<Persist>();
    REQUIRE(again.size() == 1);
    CHECK(std::get<AgentRecord>(again[0].records[0]).gone);
    log.OnPersisted({again[0].persist_id, absl::OkStatus()});
    CHECK(log.Idle());
  }
  SECTION("but never over something newer") {
    log.Write({Record1(false)}, [](const absl::Status&) {});
    f.Take<Persist>();
    log.Retry();
    CHECK(f.Take<Persist>().empty());
  }
}

TEST_CASE("a refused record is not repeated over one under way", "[core]") {
  Fixture f;
  DurableLog log(f.context);
  log.WriteUntilDone({Record1(true)});
  log.WriteUntilDone({Record1(false)});
  log.OnPersisted({1, absl::ResourceExhaustedError("full")});
  log.OnPersisted({2, absl::OkStatus()});
  f.Take<Persist>();
  log.Retry();
  CHECK(f.Take<Persist>().empty());
}

TEST_CASE("any other failure of the store is fatal", "[core]") {
  Fixture f;
  DurableLog log(f.context);
  bool called = false;
  log.Write({Record1(true)}, [&](const absl::Status&) { called = true; });
  log.OnPersisted({1, absl::InternalError("fsync")});
  CHECK(f.Take<Fatal>().size() == 1);
  CHECK_FALSE(called);
}

TEST_CASE("ids are reserved before they are given", "[core]") {
  Fixture f;
  DurableLog log(f.context);
  IdAllocator ids(f.context, log);
  CHECK(ids.Start(OperationId(5000)).last_operation == OperationId(6000));
  CHECK_THAT(ids.Next(), StatusIs(absl::StatusCode::kUnavailable));
  ids.Started();
  uint64_t last = 5000;
  for (int i = 0; i < 1000; ++i) {
    REQUIRE_OK_AND_ASSIGN(const uint64_t id, ids.Next());
    REQUIRE(id == ++last);
  }
  // The next block was asked for when half of this one was used.
  const auto writes = f.Take<Persist>();
  REQUIRE(writes.size() == 1);
  CHECK(std::get<ClusterRecord>(writes[0].records[0]).last_operation ==
        OperationId(7000));
  CHECK_THAT(ids.Next(), StatusIs(absl::StatusCode::kUnavailable));
  log.OnPersisted({writes[0].persist_id, absl::OkStatus()});
  CHECK_OK(ids.Next());
}

TEST_CASE("the event ring keeps the newest and wakes watchers", "[core]") {
  CoreOptions options;
  options.max_kept_events = 3;
  CoreContext context(options);
  EventLog log(context);
  for (int i = 1; i <= 5; ++i) log.Add("kind", absl::StrCat(i), "message");
  CHECK(log.Recent(10).size() == 3);
  CHECK(log.Recent(1)[0].subject == "5");

  const auto reply = [&context](uint64_t call) -> const Reply* {
    for (const Effect& effect : context.effects) {
      const Reply* r = std::get_if<Reply>(&effect);
      if (r != nullptr && r->call == CallId(call)) return r;
    }
    return nullptr;
  };
  log.Watch({CallId(1), 3});  // 4 and 5 at once
  REQUIRE(reply(1) != nullptr);
  CHECK(std::get<WatchEventsReply>(reply(1)->body).events.size() == 2);
  log.Watch({CallId(2), 1});  // 2 is gone
  CHECK_THAT(reply(2)->status, StatusIs(absl::StatusCode::kOutOfRange));
  log.Watch({CallId(3), 99});  // of another life
  CHECK_THAT(reply(3)->status, StatusIs(absl::StatusCode::kOutOfRange));
  log.Watch({CallId(4), 0});  // from now on
  log.Watch({CallId(5), 5});
  log.CallerGone(CallId(5));
  log.Flush();
  CHECK(reply(4) == nullptr);
  log.Add("kind", "6", "message");
  log.Flush();
  REQUIRE(reply(4) != nullptr);
  CHECK(std::get<WatchEventsReply>(reply(4)->body).events[0].revision == 6);
  CHECK(reply(5) == nullptr);
}

TEST_CASE("outcomes expire in order and are erased from the store", "[core]") {
  Fixture f;
  DurableLog log(f.context);
  Outcomes outcomes(f.context, log);
  outcomes.Begin("r1", 7, OperationId(3));
  CHECK_FALSE((*outcomes.Find("r1", 7))->finished);
  OutcomeRecord record = outcomes.MakeRecord("r1", absl::OkStatus());
  CHECK(record.fingerprint == 7);
  CHECK(record.operation == OperationId(3));
  outcomes.Finish(record, /*durable=*/true);
  record.request_id = "r0";
  record.expires -= absl::Minutes(30);
  outcomes.Restore(record);
  f.context.now += absl::Minutes(31);
  outcomes.Tick();
  CHECK(*outcomes.Find("r0", 7) == nullptr);
  CHECK((*outcomes.Find("r1", 7))->finished);
  CHECK_THAT(outcomes.Find("r1", 8),
             StatusIs(absl::StatusCode::kInvalidArgument, "r1"));
  const auto writes = f.Take<Persist>();
  REQUIRE(writes.size() == 1);
  CHECK(std::get<OutcomeRecord>(writes[0].records[0]).removed);
  CHECK(*outcomes.Find("", 0) == nullptr);  // no id, no protection
}

TEST_CASE("a decision is kept until all agents have confirmed", "[core]") {
  Fixture f;
  DurableLog log(f.context);
  DecisionLedger ledger(f.context, log);
  Decision decision;
  decision.record.operation = OperationId(9);
  decision.unconfirmed = {Rank(0), Rank(1)};
  ledger.Add(decision);
  CHECK(ledger.UnconfirmedBy(Rank(1)) ==
        std::vector<OperationId>{OperationId(9)});
  ledger.Confirm(OperationId(9), Rank(0));
  CHECK(f.Take<Persist>().empty());
  SECTION("by confirming") { ledger.Confirm(OperationId(9), Rank(1)); }
  SECTION("or being away for an hour") {
    const auto away = [](Rank) { return true; };
    ledger.Tick(away);
    CHECK(ledger.Find(OperationId(9)) != nullptr);
    f.context.now += absl::Hours(2);
    ledger.Tick([](Rank) { return false; });
    CHECK(ledger.Find(OperationId(9)) != nullptr);
    ledger.Tick(away);
  }
  CHECK(ledger.Find(OperationId(9)) == nullptr);
  const auto writes = f.Take<Persist>();
  REQUIRE(writes.size() == 1);
  CHECK(std::get<DecisionRecord>(writes[0].records[0]).removed);
  // One that nobody is left to confirm ends at once.
  decision.unconfirmed.clear();
  ledger.Add(decision);
  CHECK(ledger.Find(OperationId(9)) == nullptr);
}

TEST_CASE("the copy that counts is the newest readable one", "[core]") {
  const auto copy = [](CopyState state, uint64_t version, int64_t step = 0) {
    return CopyInventory{state, Version(version), OperationId(), step};
  };
  CHECK(CountingCopy({}).state == CopyState::kAbsent);
  CHECK(CountingCopy(
            {copy(CopyState::kPublished, 1), copy(CopyState::kPublished, 2)})
            .version == Version(2));
  CHECK(CountingCopy(
            {copy(CopyState::kFilling, 3), copy(CopyState::kPublished, 2)})
            .version == Version(2));
  CHECK(CountingCopy({copy(CopyState::kStaged, 3), CopyInventory{}}).state ==
        CopyState::kStaged);
  CHECK(CountingCopy({copy(CopyState::kTorn, 0)}).state == CopyState::kTorn);
  CHECK(CountingCopy({copy(CopyState::kPublished, 0, 4)}).step == 4);
}

TEST_CASE("the plan cache forgets the plan used longest ago", "[core]") {
  PlanCache cache;
  const auto plan = [] { return std::make_shared<const CachedPlan>(); };
  for (int i = 0; i < 16; ++i) cache.Put(absl::StrCat(i), plan());
  CHECK(cache.Find("0") != nullptr);  // used now
  cache.Put("16", plan());
  CHECK(cache.Find("1") == nullptr);
  CHECK(cache.Find("0") != nullptr);
  CHECK(cache.Find("16") != nullptr);
}

TEST_CASE("an outbox keeps what is not answered, in order", "[core]") {
  CommandOutbox outbox;
  const CommandId first =
      outbox.Add(Epoch(1), ExecuteCommand{OperationId(1)}).id;
  const CommandId second =
      outbox.Add(Epoch(1), AbortCommand{OperationId(1), {}}).id;
  CHECK(first < second);
  CHECK(outbox.Unkept(Epoch(1), EventAck{}).id > second);
  CHECK(outbox.unanswered().size() == 2);
  const auto is_one = [](const auto& c) {
    return c.operation == OperationId(1);
  };
  CHECK(outbox.Has<AbortCommand>(is_one));
  CHECK_FALSE(outbox.Has<CommitCommand>(is_one));
  REQUIRE(outbox.Answered(first).has_value());
  CHECK_FALSE(outbox.Answered(first).has_value());
  outbox.Drop<AbortCommand>(is_one);
  CHECK(outbox.unanswered().empty());
}

}  // namespace
}  // namespace sluice::coordinator
