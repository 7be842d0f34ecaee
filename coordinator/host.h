#ifndef SLUICE_COORDINATOR_HOST_H_
#define SLUICE_COORDINATOR_HOST_H_

// Runs the pure core: the only place where its orders have effects.
//
//   services ──Call──┐                       ┌─Reply, StreamUpdate─> services
//   dispatcher ──────┤   executor            ├─Connect, Send ──────> dispatcher
//   ticks ───────────┼─> Step(now, event) ───┼─Persist ─> store thread ──┐
//   PersistedEvent <─┤   (one thread)        ├─MakePlan > planner thread ┤
//   PlanReadyEvent <─┘                       └─Fatal ─────> on_fatal     │
//        └───────────────────────────────────────────────────────────────┘

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "common/serial_executor.h"
#include "coordinator/core/effects.h"
#include "coordinator/core/events.h"
#include "coordinator/dispatch/agent_client.h"
#include "coordinator/dispatch/command_dispatcher.h"
#include "coordinator/store/state_store.h"

namespace sluice::coordinator {

// What waits for a call's answer. Both run on the host's executor and must not
// block; `reply` is called exactly once and last.
struct CallHandlers {
  absl::AnyInvocable<void(absl::Status, ReplyBody) &&> reply;
  // Messages of a streaming call; may be empty.
  absl::AnyInvocable<void(const OperationUpdate&)> update;
};

// The core as the host sees it; called on the executor only.
struct CoreFunctions {
  std::function<std::vector<Effect>(absl::Time, const Event&)> step;
  std::function<bool()> idle;
};

using PlanInput = std::variant<ReshardInput, RedistributionInput>;

// Thread rule: public methods may be called from any thread; Stop, Drain and
// the destructor not from a handler.
//
// Invariants: events are handled one at a time in the order they were posted;
// the time given to the core never goes back; Persist orders are written in
// order and answered in order; each call is answered exactly once, also when
// its caller goes away and when the host stops.
class Host {
 public:
  struct Deps {
    const Clock& clock;
    StateStore& store;
    AgentClientFactory& agents;
    CoreFunctions core;
    // Makes a plan and proves it; runs on the planner's thread.
    std::function<absl::StatusOr<TransferPlan>(const PlanInput&)> plan;
    // The durable state cannot be trusted any more: the process must end. Runs
    // on the executor, at most once.
    std::function<void(const absl::Status&)> on_fatal;
    absl::Duration tick_interval = absl::Milliseconds(100);
  };

  // Reads the store and starts the core with what it held.
  // Errors: DATA_LOSS, FAILED_PRECONDITION - the store's content.
  static absl::StatusOr<std::unique_ptr<Host>> Start(Deps deps);
  // As Stop.
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  // Hands a request (a struct of events.h with a member `call`) to the core.
  // Returns the call's id for CallerGone.
  template <typename Request>
  CallId Call(Request request, CallHandlers handlers) {
    const CallId id(last_call_.fetch_add(1, std::memory_order_relaxed) + 1);
    request.call = id;
    PostCall(id, Event(std::move(request)), std::move(handlers));
    return id;
  }

  // The caller went away: tells the core, and answers the call CANCELLED.
  // Nothing happens if it was answered already.
  void CallerGone(CallId call);

  // Refuses new work with UNAVAILABLE, waits until running operations have
  // finished, for at most `finish`; then cancels them and waits for at most
  // `abort`. Returns whether nothing runs.
  bool Drain(absl::Duration finish, absl::Duration abort);

  // Answers waiting calls UNAVAILABLE, ends command streams and threads.
  void Stop();

 private:
  struct WaitingCall {
    CallHandlers handlers;
    // Last phase told, for the log: a line for each.
    OperationPhase phase = OperationPhase::kUnspecified;
  };
  struct PendingWrite {
    uint64_t persist_id = 0;
    bool decides = false;  // has a decision among its records
    std::vector<StoreWrite> writes;
  };

  explicit Host(Deps deps);

  // On any thread.
  void PostCall(CallId id, Event event, CallHandlers handlers);
  void Post(Event event);
  void TickLoop();
  absl::Time Now() const;

  // On the executor.
  void Handle(const Event& event);
  void Answer(CallId id, absl::Status status, ReplyBody body);
  void WatchOwnEvents(uint64_t after_revision);
  void CancelOperations();
  void Run(Reply reply);
  void Run(const StreamUpdate& order);
  void Run(const Persist& persist);
  void Run(MakePlan order);
  void Run(const Fatal& fatal);

  // On the store's and the planner's thread.
  void WritePending();
  void Plan(const MakePlan& order);

  const Deps deps_;
  // The time of day at the start, and the steady time then: what the core sees
  // moves with the steady clock, whoever sets the other.
  const absl::Time wall_base_;
  const absl::Time steady_base_;
  std::atomic<uint64_t> last_call_ = 0;
  std::atomic<bool> draining_ = false;
  std::atomic<bool> stopping_ = false;
  // A tick that waits to be handled: no second one is posted behind it.
  std::atomic<bool> tick_pending_ = false;

  Mutex writes_mutex_;
  std::vector<PendingWrite> writes_ ABSL_GUARDED_BY(writes_mutex_);

  Mutex state_mutex_;
  CondVar state_changed_;
  bool idle_ ABSL_GUARDED_BY(state_mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(state_mutex_) = false;

  // On the executor only.
  absl::flat_hash_map<CallId, WaitingCall> calls_;
  bool failed_ = false;  // no event is handled any more
  CommandDispatcher dispatcher_;

  // Destroyed first, in this order backwards: their tasks use all of the above,
  // and those of the store and planner post to the executor.
  SerialExecutor executor_;
  SerialExecutor store_executor_;
  SerialExecutor plan_executor_;
  std::thread ticks_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_HOST_H_
