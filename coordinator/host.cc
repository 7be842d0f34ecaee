#include "coordinator/host.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/failpoint.h"
#include "common/logging.h"
#include "common/overloaded.h"
#include "common/retry.h"
#include "common/status_macros.h"
#include "coordinator/store/record_codec.h"

namespace sluice::coordinator {
namespace {

// Drawn once per life; used if the store holds no identity.
std::string NewClusterId() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) absl::StrAppendFormat(&id, "%08x", random());
  return id;
}

absl::Status ShuttingDown() {
  return Retryable(absl::UnavailableError("the coordinator is shutting down"));
}

// What is refused while the coordinator drains: what starts or changes
// something. Agents go on, so that running operations can finish.
bool StartsWork(const Event& event) {
  return std::visit(
      [](const auto& e) {
        using E = std::decay_t<decltype(e)>;
        return std::is_same_v<E, RegisterModelRequest> ||
               std::is_same_v<E, RegisterPlacementRequest> ||
               std::is_same_v<E, RemovePlacementRequest> ||
               std::is_same_v<E, LoadRequest> ||
               std::is_same_v<E, SyncRequest> ||
               std::is_same_v<E, VerifyRequest> ||
               std::is_same_v<E, RedistributeRequest> ||
               std::is_same_v<E, ClearRequest>;
      },
      event);
}

bool HasEnded(OperationPhase phase) {
  return phase == OperationPhase::kDone || phase == OperationPhase::kFailed;
}

absl::string_view PhaseName(OperationPhase phase) {
  switch (phase) {
    case OperationPhase::kUnspecified:
      return "unspecified";
    case OperationPhase::kQueued:
      return "queued";
    case OperationPhase::kPlanning:
      return "planning";
    case OperationPhase::kPreparing:
      return "preparing";
    case OperationPhase::kExecuting:
      return "executing";
    case OperationPhase::kCommitting:
      return "committing";
    case OperationPhase::kAborting:
      return "aborting";
    case OperationPhase::kDone:
      return "done";
    case OperationPhase::kFailed:
      return "failed";
  }
  return "unknown";
}

}  // namespace

absl::StatusOr<std::unique_ptr<Host>> Host::Start(Deps deps) {
  SLUICE_ASSIGN_OR_RETURN(const std::vector<StoredRecord> stored,
                          deps.store.ReadAll());
  SLUICE_ASSIGN_OR_RETURN(std::vector<Record> records, DecodeRecords(stored));
  LogInfo("state read", {{"records", records.size()}});
  std::unique_ptr<Host> host(new Host(std::move(deps)));
  host->Post(StartEvent{std::move(records), NewClusterId()});
  host->executor_.Post([h = host.get()] { h->WatchOwnEvents(0); });
  host->ticks_ = std::thread([h = host.get()] { h->TickLoop(); });
  return host;
}

Host::Host(Deps deps)
    : deps_(std::move(deps)),
      wall_base_(deps_.clock.WallNow()),
      steady_base_(deps_.clock.Now()),
      dispatcher_(
          deps_.agents,
          [this](CommandDispatcher::Task task) {
            executor_.Post(std::move(task));
          },
          [this](const Event& event) { Handle(event); }),
      executor_("core"),
      store_executor_("store"),
      plan_executor_("planner") {}

Host::~Host() { Stop(); }

absl::Time Host::Now() const {
  return wall_base_ + (deps_.clock.Now() - steady_base_);
}

// --- events in ---------------------------------------------------------------

void Host::PostCall(CallId id, Event event, CallHandlers handlers) {
  const bool refused =
      draining_.load(std::memory_order_acquire) && StartsWork(event);
  auto shared = std::make_shared<CallHandlers>(std::move(handlers));
  const bool posted =
      !refused &&
      executor_.Post([this, id, shared, event = std::move(event)]() mutable {
        calls_[id].handlers = std::move(*shared);
        if (failed_) {
          Answer(id, ShuttingDown(), StreamEnd{});
        } else {
          Handle(event);
        }
      });
  if (!posted) std::move(shared->reply)(ShuttingDown(), StreamEnd{});
}

void Host::Post(Event event) {
  executor_.Post([this, event = std::move(event)] { Handle(event); });
}

void Host::CallerGone(CallId call) {
  executor_.Post([this, call] {
    if (!calls_.contains(call)) return;
    Handle(CallerGoneEvent{call});
    // The core does not answer a caller that is gone.
    Answer(call, absl::CancelledError("the caller is gone"), StreamEnd{});
  });
}

void Host::TickLoop() {
  for (;;) {
    {
      MutexLock lock(state_mutex_);
      if (ended_) return;
      state_changed_.WaitFor(state_mutex_, deps_.tick_interval);
      if (ended_) return;
    }
    if (tick_pending_.exchange(true)) continue;
    executor_.Post([this] {
      tick_pending_ = false;
      Handle(TickEvent{});
    });
  }
}

// --- the core ----------------------------------------------------------------

void Host::Handle(const Event& event) {
  if (failed_) return;
  for (Effect& effect : deps_.core.step(Now(), event)) {
    std::visit(Overloaded{
                   [this](Reply& e) { Run(std::move(e)); },
                   [this](StreamUpdate& e) { Run(e); },
                   [this](ConnectAgent& e) { dispatcher_.Run(e); },
                   [this](DisconnectAgent& e) { dispatcher_.Run(e); },
                   [this](SendCommand& e) { dispatcher_.Run(e); },
                   [this](Persist& e) { Run(e); },
                   [this](MakePlan& e) { Run(std::move(e)); },
                   [this](Fatal& e) { Run(e); },
               },
               effect);
    if (failed_) return;
  }
  if (!draining_.load(std::memory_order_acquire)) return;
  const bool idle = deps_.core.idle();
  MutexLock lock(state_mutex_);
  idle_ = idle;
  if (idle) state_changed_.SignalAll();
}

void Host::Answer(CallId id, absl::Status status, ReplyBody body) {
  const auto it = calls_.find(id);
  if (it == calls_.end()) return;
  // Out of the map first: the handler may call again.
  CallHandlers handlers = std::move(it->second.handlers);
  calls_.erase(it);
  std::move(handlers.reply)(std::move(status), std::move(body));
}

void Host::Run(Reply reply) {
  Answer(reply.call, std::move(reply.status), std::move(reply.body));
}

void Host::Run(const StreamUpdate& order) {
  const auto it = calls_.find(order.call);
  if (it == calls_.end()) return;
  const OperationUpdate& update = order.update;
  if (std::exchange(it->second.phase, update.phase) != update.phase) {
    LogInfo("operation", {{"operation", update.operation},
                          {"phase", PhaseName(update.phase)},
                          {"bytes_total", update.bytes_total}});
  }
  if (it->second.handlers.update) it->second.handlers.update(update);
}

void Host::Run(const Persist& persist) {
  PendingWrite pending;
  pending.persist_id = persist.persist_id;
  pending.writes.reserve(persist.records.size());
  for (const Record& record : persist.records) {
    pending.writes.push_back(EncodeRecord(record));
    pending.decides |= std::holds_alternative<DecisionRecord>(record);
  }
  {
    MutexLock lock(writes_mutex_);
    writes_.push_back(std::move(pending));
  }
  store_executor_.Post([this] { WritePending(); });
}

void Host::Run(MakePlan order) {
  plan_executor_.Post([this, order = std::move(order)] { Plan(order); });
}

void Host::Run(const Fatal& fatal) {
  failed_ = true;
  LogError("fatal", {{"reason", fatal.reason}});
  if (deps_.on_fatal) deps_.on_fatal(fatal.reason);
}

void Host::WatchOwnEvents(uint64_t after_revision) {
  if (stopping_) return;
  const CallId id(last_call_.fetch_add(1, std::memory_order_relaxed) + 1);
  CallHandlers handlers;
  handlers.reply = [this, after_revision](const absl::Status& status,
                                          ReplyBody body) {
    uint64_t last = after_revision;
    if (const auto* reply = std::get_if<WatchEventsReply>(&body);
        status.ok() && reply != nullptr) {
      for (const StatusEvent& event : reply->events) {
        last = event.revision;
        const LogFields fields = {{"subject", event.subject},
                                  {"message", event.message}};
        const bool bad = absl::StrContains(event.kind, "lost") ||
                         absl::StrContains(event.kind, "fail");
        bad ? LogWarn(event.kind, fields) : LogInfo(event.kind, fields);
      }
    } else if (status.code() == absl::StatusCode::kOutOfRange) {
      LogWarn("events missed", {{"after_revision", after_revision}});
      last = 0;
    } else {
      return;  // stopping
    }
    // Not from inside the step that answered.
    executor_.Post([this, last] { WatchOwnEvents(last); });
  };
  calls_[id].handlers = std::move(handlers);
  Handle(WatchEventsRequest{id, after_revision});
}

// --- the store's and the planner's threads -----------------------------------

void Host::WritePending() {
  std::vector<PendingWrite> pending;
  {
    MutexLock lock(writes_mutex_);
    pending.swap(writes_);
  }
  if (pending.empty()) return;  // written with an earlier one
  std::vector<StoreWrite> all;
  bool decides = false;
  for (const PendingWrite& one : pending) {
    all.insert(all.end(), one.writes.begin(), one.writes.end());
    decides |= one.decides;
  }
  if (decides) Failpoint("coordinator.before_decision");
  const absl::Status together = deps_.store.Write(all);
  if (decides) Failpoint("coordinator.after_decision");
  std::vector<PersistedEvent> answers;
  for (const PendingWrite& one : pending) {
    // A disk without room for all may have it for some.
    const bool alone = pending.size() > 1 &&
                       together.code() == absl::StatusCode::kResourceExhausted;
    answers.push_back(
        {one.persist_id, alone ? deps_.store.Write(one.writes) : together});
  }
  executor_.Post([this, answers = std::move(answers)] {
    for (const PersistedEvent& answer : answers) Handle(answer);
  });
}

void Host::Plan(const MakePlan& order) {
  if (stopping_) return;
  const absl::Time start = deps_.clock.Now();
  PlanReadyEvent ready{order.operation, deps_.plan(order.input)};
  const double ms = absl::ToDoubleMilliseconds(deps_.clock.Now() - start);
  if (ready.plan.ok()) {
    const Certificate& certificate = ready.plan->certificate;
    LogInfo("plan made", {{"operation", order.operation},
                          {"transfers", certificate.num_transfers},
                          {"rounds", certificate.rounds},
                          {"bytes_same_device", certificate.bytes[0]},
                          {"bytes_same_node", certificate.bytes[1]},
                          {"bytes_between_nodes", certificate.bytes[2]},
                          {"bound_ratio", certificate.bound_ratio},
                          {"ms", ms}});
  } else {
    LogWarn("plan refused", {{"operation", order.operation},
                             {"reason", ready.plan.status()},
                             {"ms", ms}});
  }
  Post(std::move(ready));
}

// --- the end -----------------------------------------------------------------

void Host::CancelOperations() {
  const CallId id(last_call_.fetch_add(1, std::memory_order_relaxed) + 1);
  CallHandlers handlers;
  handlers.reply = [this](const absl::Status& status, ReplyBody body) {
    const auto* snapshot = std::get_if<StatusSnapshot>(&body);
    if (!status.ok() || snapshot == nullptr) return;
    for (const OperationInfo& info : snapshot->operations) {
      if (HasEnded(info.update.phase)) continue;
      LogWarn("operation cancelled by shutdown",
              {{"operation", info.update.operation},
               {"phase", PhaseName(info.update.phase)}});
      const CallId cancel(last_call_.fetch_add(1, std::memory_order_relaxed) +
                          1);
      Post(CancelRequest{cancel, info.update.operation});
    }
  };
  calls_[id].handlers = std::move(handlers);
  Handle(StatusRequest{id, 0});
}

bool Host::Drain(absl::Duration finish, absl::Duration abort) {
  draining_.store(true, std::memory_order_release);
  const auto wait_idle = [this](absl::Duration timeout) {
    const absl::Time end = deps_.clock.Now() + timeout;
    MutexLock lock(state_mutex_);
    while (!idle_) {
      const absl::Duration left = end - deps_.clock.Now();
      if (left <= absl::ZeroDuration()) return false;
      state_changed_.WaitFor(state_mutex_, left);
    }
    return true;
  };
  // The next tick tells whether anything runs.
  if (wait_idle(finish)) return true;
  executor_.Post([this] { CancelOperations(); });
  return wait_idle(abort);
}

void Host::Stop() {
  draining_ = true;
  if (stopping_.exchange(true)) return;
  {
    MutexLock lock(state_mutex_);
    ended_ = true;
    state_changed_.SignalAll();
  }
  if (ticks_.joinable()) ticks_.join();
  executor_.Post([this] {
    failed_ = true;
    dispatcher_.CloseAll();
    while (!calls_.empty()) {
      Answer(calls_.begin()->first, ShuttingDown(), StreamEnd{});
    }
  });
  // Whatever was ordered before is still written; nobody hears of it.
  executor_.Stop();
  plan_executor_.Stop();
  store_executor_.Stop();
}

}  // namespace sluice::coordinator
