#include "tests/sim/sim_coordinator.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/overloaded.h"
#include "coordinator/planner/planners.h"

namespace sluice::sim {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(100);

std::string KeyOf(const coordinator::Record& record) {
  using namespace coordinator;  // records only
  return std::visit(
      Overloaded{
          [](const ClusterRecord&) { return std::string("cluster"); },
          [](const AgentRecord& r) { return absl::StrCat("agent ", r.name); },
          [](const ModelRecord& r) {
            return absl::StrCat("model ", r.spec.name);
          },
          [](const PlacementRecord& r) {
            return absl::StrCat("placement ", r.ref.model, "/",
                                r.ref.placement);
          },
          [](const VersionRecord& r) {
            return absl::StrCat("version ", r.model, "/", r.version.value());
          },
          [](const DecisionRecord& r) {
            return absl::StrCat("decision ", r.operation.value());
          },
          [](const OutcomeRecord& r) {
            return absl::StrCat("outcome ", r.request_id);
          }},
      record);
}

bool Erases(const coordinator::Record& record) {
  using namespace coordinator;  // records only
  return std::visit(
      Overloaded{[](const PlacementRecord& r) { return r.removed; },
                 [](const DecisionRecord& r) { return r.removed; },
                 [](const OutcomeRecord& r) { return r.removed; },
                 [](const auto&) { return false; }},
      record);
}

bool Decides(const coordinator::Persist& order) {
  return std::any_of(order.records.begin(), order.records.end(),
                     [](const coordinator::Record& record) {
                       const auto* decision =
                           std::get_if<coordinator::DecisionRecord>(&record);
                       return decision != nullptr && !decision->removed;
                     });
}

absl::StatusOr<TransferPlan> Plan(const coordinator::MakePlan& order) {
  return std::visit(
      Overloaded{[](const coordinator::ReshardInput& input)
                     -> absl::StatusOr<TransferPlan> {
                   auto plan = coordinator::PlanReshard(input);
                   if (!plan.ok()) return plan;
                   const auto valid =
                       coordinator::ValidateReshard(input, *plan);
                   if (!valid.ok()) return valid;
                   return plan;
                 },
                 [](const coordinator::RedistributionInput& input)
                     -> absl::StatusOr<TransferPlan> {
                   auto plan = coordinator::PlanRedistribution(input);
                   if (!plan.ok()) return plan;
                   const auto valid =
                       coordinator::ValidateRedistribution(input, *plan);
                   if (!valid.ok()) return valid;
                   return plan;
                 }},
      order.input);
}

}  // namespace

SimCoordinator::SimCoordinator(
    World& world, coordinator::CoreOptions options,
    std::function<AgentEnd*(const std::string&)> agent_at)
    : Process(world, "coordinator"),
      options_(options),
      agent_at_(std::move(agent_at)) {}

absl::Duration SimCoordinator::Delay() {
  absl::Duration delay =
      world_.random.Between(absl::ZeroDuration(), 2 * weather.delay);
  if (weather.spike_one_in > 0 && world_.random.OneIn(weather.spike_one_in)) {
    delay += world_.random.Between(absl::ZeroDuration(), absl::Seconds(1));
  }
  return delay;
}

void SimCoordinator::Start() {
  BeginLife();
  world_.history.Note("coordinator starts, life ", life());
  core_ = std::make_unique<coordinator::CoordinatorCore>(options_);
  coordinator::StartEvent start;
  for (const auto& [key, record] : durable_) start.records.push_back(record);
  start.new_cluster_id = "simulated";
  Step(start);
  After(kTick, [this] { Tick(); });
}

void SimCoordinator::Crash() {
  if (!alive()) return;
  world_.history.Note("coordinator crashes");
  EndLife();
  core_.reset();
  const int64_t kept =
      world_.random.Below(static_cast<int64_t>(writing_.size()) + 1);
  for (int64_t i = 0; i < kept; ++i) {
    for (const auto& record : writing_[static_cast<size_t>(i)].records) {
      Apply(record);
    }
  }
  writing_.clear();
  for (auto& [rank, target] : std::exchange(targets_, {})) {
    if (target.stream != nullptr) Break(target.stream);
  }
  for (auto& [id, answer] : std::exchange(calls_, {})) {
    world_.scheduler.After(Delay(), [answer = std::move(answer)] {
      answer(absl::UnavailableError("the coordinator is gone"),
             coordinator::StreamEnd{});
    });
  }
}

void SimCoordinator::Tick() {
  Step(coordinator::TickEvent{});
  After(kTick, [this] { Tick(); });
}

void SimCoordinator::Step(const coordinator::Event& event) {
  for (const coordinator::Effect& effect :
       core_->Step(world_.scheduler.now(), event)) {
    RunOne(effect);
  }
}

void SimCoordinator::RunOne(const coordinator::Effect& effect) {
  std::visit([this](const auto& order) { Run(order); }, effect);
}

// --- calls
// ---------------------------------------------------------------------

uint64_t SimCoordinator::Call(MakeEvent make, Answer answer) {
  const uint64_t id = next_call_++;
  if (!alive() ||
      (weather.lose_one_in > 0 && world_.random.OneIn(weather.lose_one_in))) {
    world_.scheduler.After(Delay(), [answer = std::move(answer)] {
      answer(absl::UnavailableError("simulated: the call was lost"),
             coordinator::StreamEnd{});
    });
    return id;
  }
  calls_[id] = std::move(answer);
  After(Delay(), [this, id, make = std::move(make)] {
    if (calls_.count(id) == 0) return;  // abandoned before it arrived
    Step(make(coordinator::CallId(id)));
  });
  return id;
}

void SimCoordinator::Abandon(uint64_t call) {
  if (calls_.erase(call) == 0) return;
  After(Delay(), [this, call] {
    Step(coordinator::CallerGoneEvent{coordinator::CallId(call)});
  });
}

void SimCoordinator::Run(const coordinator::Reply& order) {
  const auto it = calls_.find(order.call.value());
  if (it == calls_.end()) return;
  Answer answer = std::move(it->second);
  calls_.erase(it);
  absl::Status status = order.status;
  if (weather.lose_one_in > 0 && world_.random.OneIn(weather.lose_one_in)) {
    status = absl::UnavailableError("simulated: the answer was lost");
  }
  world_.scheduler.After(
      Delay(), [answer = std::move(answer), status = std::move(status),
                body = order.body] { answer(status, body); });
}

coordinator::StatusSnapshot SimCoordinator::Status() {
  const uint64_t id = next_call_++;
  coordinator::StatusRequest request;
  request.call = coordinator::CallId(id);
  coordinator::StatusSnapshot snapshot;
  for (const coordinator::Effect& effect :
       core_->Step(world_.scheduler.now(), request)) {
    const auto* reply = std::get_if<coordinator::Reply>(&effect);
    if (reply == nullptr || reply->call.value() != id) {
      RunOne(effect);
    } else if (reply->status.ok()) {
      snapshot = std::get<coordinator::StatusSnapshot>(reply->body);
    }
  }
  return snapshot;
}

// --- streams
// ---------------------------------------------------------------------

void SimCoordinator::Run(const coordinator::ConnectAgent& order) {
  Target& target = targets_[order.rank];
  if (target.stream != nullptr) Break(std::exchange(target.stream, nullptr));
  target.incarnation = order.incarnation;
  target.address = order.address;
  target.serial = next_serial_++;
  TryConnect(order.rank, target.serial);
}

void SimCoordinator::Run(const coordinator::DisconnectAgent& order) {
  const auto it = targets_.find(order.rank);
  if (it == targets_.end()) return;
  const StreamPtr stream = it->second.stream;
  targets_.erase(it);
  if (stream != nullptr) Break(stream);
}

void SimCoordinator::TryConnect(Rank rank, uint64_t serial) {
  After(Delay() + absl::Milliseconds(1), [this, rank, serial] {
    const auto it = targets_.find(rank);
    if (it == targets_.end() || it->second.serial != serial ||
        it->second.stream != nullptr) {
      return;
    }
    Target& target = it->second;
    AgentEnd* agent = agent_at_(target.address);
    if (agent == nullptr || !agent->running() || cut[agent->name()]) {
      After(world_.random.Between(absl::Milliseconds(20),
                                  absl::Milliseconds(300)),
            [this, rank, serial] { TryConnect(rank, serial); });
      return;
    }
    auto stream = std::make_shared<Stream>();
    stream->rank = rank;
    stream->incarnation = target.incarnation;
    stream->agent = agent;
    stream->coordinator_life = life();
    stream->last_to_agent = stream->last_to_coordinator =
        world_.scheduler.now();
    target.stream = stream;
    world_.history.Note("stream to ", agent->name(), " is up");
    Step(coordinator::StreamUpEvent{rank, target.incarnation});
  });
}

void SimCoordinator::BreakStream(const AgentEnd& agent) {
  for (auto& [rank, target] : targets_) {
    if (target.stream != nullptr && target.stream->agent == &agent) {
      Break(StreamPtr(target.stream));
    }
  }
}

void SimCoordinator::Break(const StreamPtr& stream) {
  if (!std::exchange(stream->open, false)) return;
  world_.history.Note("stream to ", stream->agent->name(), " breaks");
  stream->agent->StreamBroke(stream, Delay());
  if (!alive() || stream->coordinator_life != life()) return;
  After(Delay(), [this, stream] {
    const auto it = targets_.find(stream->rank);
    if (it == targets_.end() || it->second.stream != stream) return;
    it->second.stream = nullptr;
    const Rank rank = stream->rank;
    const uint64_t serial = it->second.serial;
    Step(coordinator::StreamDownEvent{rank, stream->incarnation});
    After(world_.random.Between(absl::ZeroDuration(), absl::Milliseconds(200)),
          [this, rank, serial] { TryConnect(rank, serial); });
  });
}

void SimCoordinator::Run(const coordinator::SendCommand& order) {
  const auto it = targets_.find(order.rank);
  if (it == targets_.end() || it->second.stream == nullptr ||
      it->second.incarnation != order.incarnation) {
    return;
  }
  const StreamPtr& stream = it->second.stream;
  if (!stream->open) return;
  if (std::holds_alternative<CommitCommand>(order.command.body)) {
    world_.At(Moment::kCommitSent, name());
  }
  Send(stream, order.command);
  if (weather.repeat_one_in > 0 &&
      !std::holds_alternative<WelcomeCommand>(order.command.body) &&
      world_.random.OneIn(weather.repeat_one_in)) {
    Send(stream, order.command);
  }
}

void SimCoordinator::Send(const StreamPtr& stream, const Command& command) {
  stream->last_to_agent =
      std::max(stream->last_to_agent, world_.scheduler.now() + Delay());
  stream->agent->Deliver(stream, command,
                         stream->last_to_agent - world_.scheduler.now());
}

void SimCoordinator::Deliver(const StreamPtr& stream, const AgentEvent& event) {
  if (!stream->open || stream->coordinator_life != life()) return;
  stream->last_to_coordinator =
      std::max(stream->last_to_coordinator, world_.scheduler.now() + Delay());
  After(stream->last_to_coordinator - world_.scheduler.now(), [this, stream,
                                                               event] {
    const auto it = targets_.find(stream->rank);
    if (!stream->open || it == targets_.end() || it->second.stream != stream) {
      return;
    }
    Step(coordinator::AgentMessageEvent{stream->rank, event});
  });
}

// --- store, planner
// ----------------------------------------------------------------

void SimCoordinator::Apply(const coordinator::Record& record) {
  if (Erases(record)) {
    durable_.erase(KeyOf(record));
  } else {
    durable_[KeyOf(record)] = record;
  }
}

void SimCoordinator::Run(const coordinator::Persist& order) {
  if (Decides(order)) world_.At(Moment::kDecisionOrdered, name());
  writing_.push_back(order);
  if (writing_.size() == 1) WriteNext();
}

// One write after the other.
void SimCoordinator::WriteNext() {
  After(world_.random.Between(absl::Microseconds(100), absl::Milliseconds(8)),
        [this] {
          const coordinator::Persist done = std::move(writing_.front());
          writing_.pop_front();
          for (const auto& record : done.records) Apply(record);
          if (Decides(done)) world_.At(Moment::kDecisionDurable, name());
          if (!writing_.empty()) WriteNext();
          Step(coordinator::PersistedEvent{done.persist_id, absl::OkStatus()});
        });
}

void SimCoordinator::Run(const coordinator::MakePlan& order) {
  coordinator::PlanReadyEvent ready;
  ready.operation = order.operation;
  ready.plan = Plan(order);
  if (absl::IsInternal(ready.plan.status())) {
    world_.history.Violation("a plan is refused by the validator: ",
                             ready.plan.status().ToString());
  }
  After(world_.random.Between(absl::Microseconds(100), absl::Milliseconds(10)),
        [this, ready = std::move(ready)] { Step(ready); });
}

void SimCoordinator::Run(const coordinator::Fatal& order) {
  world_.history.Violation("the coordinator gives up: ",
                           order.reason.ToString());
}

}  // namespace sluice::sim
