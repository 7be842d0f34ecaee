// The host around a core that a test scripts: what it is told, and that its
// orders are carried out. The real core is in server_test.cc.

#include "coordinator/host.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/fakes/fake_agent_client.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/memory_store.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

using testing::StatusIs;
using Code = absl::StatusCode;

// A value that one thread sets and the test waits for.
template <typename T>
class Future {
 public:
  void Set(T value) {
    const std::lock_guard lock(mutex_);
    value_ = std::move(value);
    changed_.notify_all();
  }
  T Get() {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds(20),
                              [this] { return value_.has_value(); }));
    return *value_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<T> value_;
};

// A core that hands every event but ticks to `script`.
struct Fixture {
  using Script = std::function<std::vector<Effect>(const Event&)>;

  explicit Fixture(const Script& script) {
    Host::Deps deps{clock,
                    store,
                    agents,
                    {[this, script](absl::Time now, const Event& event) {
                       times.push_back(now);
                       if (std::holds_alternative<TickEvent>(event)) {
                         return std::vector<Effect>{};
                       }
                       return script(event);
                     },
                     [this] { return idle.load(); }},
                    [this](const PlanInput&) -> absl::StatusOr<TransferPlan> {
                      return plan;
                    },
                    [this](const absl::Status& status) { fatal.Set(status); },
                    /*tick_interval=*/absl::Milliseconds(1)};
    auto started = Host::Start(std::move(deps));
    REQUIRE_OK(started);
    host = *std::move(started);
  }

  testing::FakeClock clock;
  testing::MemoryStore store;
  testing::FakeAgentClientFactory agents;
  std::vector<absl::Time> times;  // on the host's executor
  std::atomic<bool> idle = true;
  absl::StatusOr<TransferPlan> plan = TransferPlan{};
  Future<absl::Status> fatal;
  std::unique_ptr<Host> host;
};

struct Answer {
  absl::Status status;
  ReplyBody body;
};

// Handlers that keep the answer.
CallHandlers Keep(const std::shared_ptr<Future<Answer>>& answer) {
  CallHandlers handlers;
  handlers.reply = [answer](absl::Status status, ReplyBody body) {
    answer->Set({std::move(status), std::move(body)});
  };
  return handlers;
}

template <typename Request>
Answer Call(Host& host, Request request) {
  const auto answer = std::make_shared<Future<Answer>>();
  host.Call(std::move(request), Keep(answer));
  return answer->Get();
}

TEST_CASE("a call gets its own answer", "[host]") {
  Fixture f([](const Event& event) -> std::vector<Effect> {
    const auto* get = std::get_if<GetModelRequest>(&event);
    if (get == nullptr) return {};
    if (get->model == "none") {
      return {Reply{get->call, absl::NotFoundError("none"), StreamEnd{}}};
    }
    GetModelReply reply;
    reply.model.name = get->model;
    return {Reply{get->call, absl::OkStatus(), reply}};
  });
  const Answer found = Call(*f.host, GetModelRequest{CallId(), "policy"});
  REQUIRE_OK(found.status);
  CHECK(std::get<GetModelReply>(found.body).model.name == "policy");
  CHECK_THAT(Call(*f.host, GetModelRequest{CallId(), "none"}).status,
             StatusIs(Code::kNotFound));
}

TEST_CASE("the core starts with what the store held", "[host]") {
  Future<StartEvent> start;
  const auto script = [&start](const Event& event) -> std::vector<Effect> {
    if (const auto* s = std::get_if<StartEvent>(&event)) {
      start.Set(*s);
      return {Persist{1, {ClusterRecord{"c", Epoch(5), OperationId(6)}}}};
    }
    return {};
  };
  Fixture first(script);
  const StartEvent empty = start.Get();
  CHECK(empty.records.empty());
  CHECK(empty.new_cluster_id.size() == 32);
  first.host->Stop();  // writes what was ordered
  REQUIRE_OK_AND_ASSIGN(const auto stored, first.store.ReadAll());
  REQUIRE(stored.size() == 1);
  CHECK(stored[0].kind == "cluster");
}

TEST_CASE("records are answered in order when they are durable", "[host]") {
  std::vector<uint64_t> persisted;
  Future<bool> all;
  Fixture f([&](const Event& event) -> std::vector<Effect> {
    if (std::holds_alternative<GetModelRequest>(event)) {
      std::vector<Effect> orders;
      for (uint64_t id = 1; id <= 50; ++id) {
        orders.push_back(Persist{
            id, {AgentRecord{"a", Rank(static_cast<int32_t>(id)), ""}}});
      }
      return orders;
    }
    if (const auto* done = std::get_if<PersistedEvent>(&event)) {
      persisted.push_back(done->status.ok() ? done->persist_id : 0);
      if (persisted.size() == 50) all.Set(true);
    }
    return {};
  });
  f.host->Call(GetModelRequest{}, Keep(std::make_shared<Future<Answer>>()));
  CHECK(all.Get());
  for (uint64_t id = 1; id <= 50; ++id) CHECK(persisted[id - 1] == id);
  // The last record under the key won; they were not written one by one.
  CHECK(f.store.batches() <= 50);
}

TEST_CASE("a write that fails is told to the core", "[host]") {
  Future<absl::Status> told;
  Fixture f([&](const Event& event) -> std::vector<Effect> {
    if (std::holds_alternative<GetModelRequest>(event)) {
      return {Persist{1, {AgentRecord{"a", Rank(0), ""}}}};
    }
    if (const auto* done = std::get_if<PersistedEvent>(&event)) {
      told.Set(done->status);
    }
    return {};
  });
  f.store.FailWrites(absl::ResourceExhaustedError("disk full"));
  f.host->Call(GetModelRequest{}, Keep(std::make_shared<Future<Answer>>()));
  CHECK_THAT(told.Get(), StatusIs(Code::kResourceExhausted));
}

TEST_CASE("a plan comes back as an event", "[host]") {
  Future<PlanReadyEvent> ready;
  Fixture f([&](const Event& event) -> std::vector<Effect> {
    if (std::holds_alternative<GetModelRequest>(event)) {
      return {MakePlan{OperationId(3), RedistributionInput{}}};
    }
    if (const auto* r = std::get_if<PlanReadyEvent>(&event)) ready.Set(*r);
    return {};
  });
  f.plan = absl::InternalError("not proved");
  f.host->Call(GetModelRequest{}, Keep(std::make_shared<Future<Answer>>()));
  const PlanReadyEvent event = ready.Get();
  CHECK(event.operation == OperationId(3));
  CHECK_THAT(event.plan, StatusIs(Code::kInternal));
}

TEST_CASE("updates come before the end and belong to their call", "[host]") {
  Fixture f([](const Event& event) -> std::vector<Effect> {
    const auto* sync = std::get_if<SyncRequest>(&event);
    if (sync == nullptr) return {};
    OperationUpdate update;
    update.operation = OperationId(1);
    update.phase = OperationPhase::kPlanning;
    OperationUpdate done = update;
    done.phase = OperationPhase::kDone;
    return {StreamUpdate{sync->call, update},
            StreamUpdate{CallId(999), update},  // nobody's
            StreamUpdate{sync->call, done},
            Reply{sync->call, absl::OkStatus(), StreamEnd{}}};
  });
  const auto answer = std::make_shared<Future<Answer>>();
  const auto phases = std::make_shared<std::vector<OperationPhase>>();
  CallHandlers handlers = Keep(answer);
  handlers.update = [phases](const OperationUpdate& update) {
    phases->push_back(update.phase);
  };
  f.host->Call(SyncRequest{}, std::move(handlers));
  CHECK_OK(answer->Get().status);
  CHECK(*phases == std::vector<OperationPhase>{OperationPhase::kPlanning,
                                               OperationPhase::kDone});
}

TEST_CASE("a caller that goes away is told to the core and answered once",
          "[host]") {
  Future<CallId> gone;
  Future<CallId> waiting;
  Fixture f([&](const Event& event) -> std::vector<Effect> {
    if (const auto* sync = std::get_if<SyncRequest>(&event)) {
      waiting.Set(sync->call);
    }
    if (const auto* g = std::get_if<CallerGoneEvent>(&event)) {
      gone.Set(g->call);
      // A late answer of the core goes nowhere.
      return {Reply{g->call, absl::AbortedError("late"), StreamEnd{}},
              Reply{g->call, absl::AbortedError("later"), StreamEnd{}}};
    }
    return {};
  });
  const auto answer = std::make_shared<Future<Answer>>();
  const CallId call = f.host->Call(SyncRequest{}, Keep(answer));
  CHECK(waiting.Get() == call);
  f.host->CallerGone(call);
  CHECK(gone.Get() == call);
  CHECK_FALSE(answer->Get().status.ok());
  f.host->CallerGone(call);  // nothing to do any more
}

TEST_CASE("time never goes back for the core, whoever sets the clock",
          "[host]") {
  Fixture f([](const Event& event) -> std::vector<Effect> {
    const auto* get = std::get_if<GetModelRequest>(&event);
    if (get == nullptr) return {};
    return {Reply{get->call, absl::OkStatus(), GetModelReply{}}};
  });
  Call(*f.host, GetModelRequest{});
  f.clock.Advance(absl::Seconds(5));
  f.clock.SetWall(absl::UnixEpoch());
  Call(*f.host, GetModelRequest{});
  f.host->Stop();
  REQUIRE(f.times.size() >= 2);
  for (size_t i = 1; i < f.times.size(); ++i) {
    CHECK(f.times[i] >= f.times[i - 1]);
  }
  CHECK(f.times.back() - f.times.front() == absl::Seconds(5));
}

TEST_CASE("agents are connected and heard", "[host]") {
  constexpr Rank kRank{2};
  Future<bool> up;
  Future<AgentMessageEvent> message;
  Fixture f([&](const Event& event) -> std::vector<Effect> {
    if (std::holds_alternative<GetModelRequest>(event)) {
      return {ConnectAgent{kRank, Incarnation(9), "127.0.0.1:1"}};
    }
    if (std::holds_alternative<StreamUpEvent>(event)) {
      up.Set(true);
      return {SendCommand{kRank, Incarnation(9),
                          Command{CommandId(1), Epoch(1), SetPeersCommand{}}}};
    }
    if (const auto* m = std::get_if<AgentMessageEvent>(&event)) {
      message.Set(*m);
    }
    return {};
  });
  f.host->Call(GetModelRequest{}, Keep(std::make_shared<Future<Answer>>()));
  REQUIRE(f.agents.WaitForTarget(kRank).has_value());
  f.agents.Up(kRank);
  CHECK(up.Get());
  CHECK(f.agents.NextCommand(kRank)->id == CommandId(1));
  f.agents.Emit(kRank, AgentEvent{4, Incarnation(9), StoppedEvent{}});
  CHECK(message.Get().event.event_id == 4);
}

TEST_CASE("a fatal order stops the core and is told", "[host]") {
  int steps_after = 0;
  bool fatal_given = false;
  Fixture f([&](const Event& event) -> std::vector<Effect> {
    if (fatal_given) ++steps_after;
    if (std::holds_alternative<GetModelRequest>(event)) {
      fatal_given = true;
      return {Fatal{absl::InternalError("disk")}};
    }
    return {};
  });
  f.host->Call(GetModelRequest{}, Keep(std::make_shared<Future<Answer>>()));
  CHECK_THAT(f.fatal.Get(), StatusIs(Code::kInternal, "disk"));
  CHECK_THAT(Call(*f.host, StatusRequest{}).status,
             StatusIs(Code::kUnavailable));
  f.host->Stop();
  CHECK(steps_after == 0);
}

TEST_CASE("stopping answers every waiting call and refuses new ones",
          "[host]") {
  Fixture f([](const Event&) { return std::vector<Effect>{}; });
  const auto waiting = std::make_shared<Future<Answer>>();
  f.host->Call(SyncRequest{}, Keep(waiting));
  f.host->Stop();
  CHECK_THAT(waiting->Get().status, StatusIs(Code::kUnavailable));
  CHECK_THAT(Call(*f.host, StatusRequest{}).status,
             StatusIs(Code::kUnavailable));
}

TEST_CASE("draining waits for operations, then cancels them", "[host]") {
  Future<OperationId> cancelled;
  std::atomic<bool>* idle = nullptr;
  Fixture f([&](const Event& event) -> std::vector<Effect> {
    if (const auto* status = std::get_if<StatusRequest>(&event)) {
      StatusSnapshot snapshot;
      snapshot.operations.resize(2);
      snapshot.operations[0].update.operation = OperationId(7);
      snapshot.operations[0].update.phase = OperationPhase::kDone;
      snapshot.operations[1].update.operation = OperationId(8);
      snapshot.operations[1].update.phase = OperationPhase::kExecuting;
      return {Reply{status->call, absl::OkStatus(), snapshot}};
    }
    if (const auto* cancel = std::get_if<CancelRequest>(&event)) {
      cancelled.Set(cancel->operation);
      *idle = true;
    }
    return {};
  });
  idle = &f.idle;
  f.idle = false;
  // The fake clock stands still: the first wait is over at once, the second
  // ends when the core says that nothing runs.
  CHECK(f.host->Drain(absl::ZeroDuration(), absl::Seconds(20)));
  CHECK(cancelled.Get() == OperationId(8));
  CHECK_THAT(Call(*f.host, SyncRequest{}).status, StatusIs(Code::kUnavailable));
  CHECK_OK(Call(*f.host, StatusRequest{}).status);
}

}  // namespace
}  // namespace sluice::coordinator
