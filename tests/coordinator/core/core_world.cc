#include "tests/coordinator/core/core_world.h"

#include <catch2/catch.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "coordinator/core/durable_log.h"
#include "coordinator/planner/planners.h"
#include "tests/support/status_matchers.h"

namespace sluice::coordinator {
namespace {

bool IsRemoved(const Record& record) {
  return std::visit(
      [](const auto& r) {
        if constexpr (requires { r.removed; }) {
          return r.removed;
        } else {
          return false;
        }
      },
      record);
}

}  // namespace

CoreWorld::CoreWorld(CoreOptions options) : options_(options) {
  REQUIRE_OK(options_.Validate());
  Restart();
}

// --- time --------------------------------------------------------------------

void CoreWorld::Beat() {
  for (auto& [name, agent] : agents_) {
    if (!agent->running) continue;
    HeartbeatEvent beat;
    beat.call = NewCall();
    beat.name = name;
    beat.incarnation = agent->incarnation;
    Do(beat);
    if (absl::IsNotFound(StatusOf(beat.call))) Register(*agent);
  }
}

void CoreWorld::Advance(absl::Duration duration) {
  const absl::Time end = now_ + duration;
  while (now_ < end) {
    now_ += options_.tick_interval;
    if (now_ >= next_beat_) {
      next_beat_ = now_ + options_.heartbeat_interval;
      Beat();
    }
    Do(TickEvent{});
  }
}

// --- the coordinator ---------------------------------------------------------

void CoreWorld::Do(Event event) {
  queue_.push_back(std::move(event));
  if (!running_) Run();
}

void CoreWorld::Run() {
  running_ = true;
  while (!queue_.empty() && alive_) {
    const Event event = std::move(queue_.front());
    queue_.pop_front();
    RunEffects(core_->Step(now_, event));
  }
  if (!alive_) queue_.clear();
  running_ = false;
}

void CoreWorld::Kill() {
  alive_ = false;
  queue_.clear();
  held_writes_.clear();
  held_plans_.clear();
  for (auto& [name, agent] : agents_) {
    agent->connected = agent->wanted = false;
  }
}

void CoreWorld::Restart() {
  Kill();
  core_ = std::make_unique<CoordinatorCore>(options_);
  alive_ = true;
  StartEvent start;
  for (const auto& [key, record] : stored_) start.records.push_back(record);
  start.new_cluster_id = "cluster-1";
  next_beat_ = now_;
  Do(std::move(start));
}

void CoreWorld::RunEffects(std::vector<Effect> effects) {
  for (const Effect& effect : effects) {
    if (!alive_) return;  // killed between two effects
    std::visit([this](const auto& e) { RunEffect(e); }, effect);
  }
}

void CoreWorld::RunEffect(const Reply& reply) {
  INFO("call " << reply.call << " is answered twice");
  CHECK(!replies_.contains(reply.call));
  replies_.emplace(reply.call, reply);
}

void CoreWorld::RunEffect(const StreamUpdate& update) {
  INFO("call " << update.call << " gets an update after its end");
  CHECK(!replies_.contains(update.call));
  updates_[update.call].push_back(update.update);
}

void CoreWorld::RunEffect(const Fatal& fatal) {
  fatal_ = fatal.reason;
  alive_ = false;
}

// --- store -------------------------------------------------------------------

void CoreWorld::RunEffect(const Persist& persist) {
  ++num_writes;
  if (hold_writes) {
    held_writes_.push_back(persist);
    return;
  }
  if (write_error.ok()) Store(persist);
  Do(PersistedEvent{persist.persist_id, write_error});
}

void CoreWorld::Store(const Persist& persist) {
  for (const Record& record : persist.records) {
    if (IsRemoved(record)) {
      stored_.erase(RecordKey(record));
    } else {
      stored_.insert_or_assign(RecordKey(record), record);
    }
  }
}

void CoreWorld::ReleaseWrite() {
  REQUIRE(!held_writes_.empty());
  const Persist persist = std::move(held_writes_.front());
  held_writes_.pop_front();
  if (write_error.ok()) Store(persist);
  Do(PersistedEvent{persist.persist_id, write_error});
}

void CoreWorld::MakeDurableUnheard() {
  REQUIRE(!held_writes_.empty());
  Store(held_writes_.front());
  held_writes_.pop_front();
}

bool CoreWorld::HasStored(const std::string& key_prefix) const {
  const auto it = stored_.lower_bound(key_prefix);
  return it != stored_.end() && absl::StartsWith(it->first, key_prefix);
}

// --- planner -----------------------------------------------------------------

void CoreWorld::RunEffect(const MakePlan& plan) {
  ++num_plans;
  if (hold_plans) {
    held_plans_.push_back(plan);
  } else {
    Plan(plan);
  }
}

void CoreWorld::Plan(const MakePlan& plan) {
  PlanReadyEvent ready;
  ready.operation = plan.operation;
  if (!plan_error.ok()) {
    ready.plan = plan_error;
  } else if (const auto* sync = std::get_if<ReshardInput>(&plan.input)) {
    ready.plan = PlanReshard(*sync);
    CHECK_OK(ready.plan);
    if (ready.plan.ok()) CHECK_OK(ValidateReshard(*sync, *ready.plan));
  } else {
    const auto& samples = std::get<RedistributionInput>(plan.input);
    ready.plan = PlanRedistribution(samples);
    CHECK_OK(ready.plan);
    if (ready.plan.ok()) {
      CHECK_OK(ValidateRedistribution(samples, *ready.plan));
    }
  }
  Do(std::move(ready));
}

void CoreWorld::ReleasePlans() {
  for (const MakePlan& plan : std::exchange(held_plans_, {})) Plan(plan);
}

// --- agents ------------------------------------------------------------------

FakeAgent* CoreWorld::AgentOf(Rank rank) {
  for (auto& [name, agent] : agents_) {
    if (agent->rank == rank) return agent.get();
  }
  return nullptr;
}

FakeAgent& CoreWorld::Join(const std::string& name, bool wait) {
  const std::string node =
      absl::StrCat("node-", (name.back() - '0') / 2);  // a0, a1: node-0
  auto agent = std::make_unique<FakeAgent>(name, node);
  agent->incarnation = Incarnation(++last_incarnation_);
  agent->address = absl::StrCat(name, ":1");
  FakeAgent& joined = *agent;
  agents_[name] = std::move(agent);
  Register(joined);
  if (wait) Advance(options_.tick_interval);  // peers are told
  return joined;
}

void CoreWorld::Register(FakeAgent& agent) {
  RegisterAgentEvent event;
  event.call = NewCall();
  event.name = agent.name;
  event.node = agent.node;
  event.address = agent.address;
  event.cluster_id = "";
  event.device = "host";
  event.incarnation = agent.incarnation;
  event.memory_bytes = agent.memory_bytes;
  event.staging_bytes = agent.staging_bytes;
  event.nccl_version = agent.nccl_version;
  event.nccl_device = agent.nccl_device;
  Do(event);
}

void CoreWorld::RunEffect(const ConnectAgent& connect) {
  for (auto& [name, agent] : agents_) {
    if (agent->incarnation != connect.incarnation) continue;
    agent->rank = connect.rank;
    agent->wanted = true;
    if (!agent->running) continue;
    agent->connected = true;
    Do(StreamUpEvent{connect.rank, connect.incarnation});
  }
}

void CoreWorld::RunEffect(const DisconnectAgent& disconnect) {
  if (FakeAgent* agent = AgentOf(disconnect.rank)) {
    agent->wanted = agent->connected = false;
  }
}

void CoreWorld::RunEffect(const SendCommand& send) {
  FakeAgent* agent = AgentOf(send.rank);
  if (agent == nullptr || agent->incarnation != send.incarnation ||
      !agent->connected || !agent->running) {
    return;
  }
  if (on_command && on_command(*agent, send.command)) return;
  for (AgentEvent& event : agent->OnCommand(send.command)) {
    Do(AgentMessageEvent{send.rank, std::move(event)});
  }
}

void CoreWorld::KillAgent(const std::string& name) {
  FakeAgent& agent = Agent(name);
  agent.running = false;
  Disconnect(name);
}

void CoreWorld::RestartAgent(const std::string& name) {
  FakeAgent& agent = Agent(name);
  if (agent.connected) KillAgent(name);
  agent.StartAgain(++last_incarnation_);
  Register(agent);
}

void CoreWorld::Disconnect(const std::string& name) {
  FakeAgent& agent = Agent(name);
  if (!std::exchange(agent.connected, false)) return;
  Do(StreamDownEvent{agent.rank, agent.incarnation});
}

void CoreWorld::Connect(const std::string& name) {
  FakeAgent& agent = Agent(name);
  if (!agent.wanted || !agent.running) return;
  agent.connected = true;
  Do(StreamUpEvent{agent.rank, agent.incarnation});
}

void CoreWorld::Tell(FakeAgent& agent, AgentEventBody body, bool wants_ack) {
  const uint64_t id = wants_ack ? agent.next_event_id++ : 0;
  Do(AgentMessageEvent{agent.rank, agent.Event(std::move(body), id)});
}

// --- calls -------------------------------------------------------------------

const Reply* CoreWorld::ReplyTo(CallId call) const {
  const auto it = replies_.find(call);
  return it == replies_.end() ? nullptr : &it->second;
}

absl::Status CoreWorld::StatusOf(CallId call) const {
  const Reply* reply = ReplyTo(call);
  return reply == nullptr ? absl::UnknownError("no reply") : reply->status;
}

StatusSnapshot CoreWorld::Status() {
  StatusRequest request;
  request.max_events = 1000;
  return BodyOf<StatusSnapshot>(Call(request));
}

AgentState CoreWorld::StateOf(const std::string& name) {
  for (const AgentStatus& agent : Status().agents) {
    if (agent.name == name) return agent.state;
  }
  return AgentState::kUnspecified;
}

bool CoreWorld::HasEvent(const std::string& kind, const std::string& subject) {
  for (const StatusEvent& event : Status().events) {
    if (event.kind == kind && (subject.empty() || event.subject == subject)) {
      return true;
    }
  }
  return false;
}

// --- a small model
// -------------------------------------------------------------

ModelSpec SmallModel(const std::string& name) {
  ModelSpec model;
  model.name = name;
  model.tensors = {{"w", DType::kF32, {8, 4}}, {"b", DType::kF32, {8}}};
  return model;
}

Layout RowLayout() {
  Layout layout;
  layout.name = "rows";
  layout.replica_axes = {"data"};
  LayoutRule rule;
  rule.pattern = "*";
  rule.splits = {
      DimSplit{.dim = 0, .axes = {"tensor"}, .sizes = {}, .parts = {}}};
  layout.rules = {rule};
  return layout;
}

Layout ColumnLayout() {
  Layout layout = RowLayout();
  layout.name = "columns";
  LayoutRule w = layout.rules[0];
  w.pattern = "w";
  w.splits[0].dim = 1;
  LayoutRule b = layout.rules[0];
  b.pattern = "b";
  layout.rules = {w, b};
  return layout;
}

void DeclareSmall(CoreWorld& world, Storage trainer_storage) {
  RegisterModelRequest model;
  model.model = SmallModel();
  REQUIRE_OK(world.StatusOf(world.Call(model)));
  RegisterPlacementRequest trainer;
  trainer.model = "policy";
  trainer.placement = "trainer";
  trainer.axes = {{"data", 1}, {"tensor", 2}};
  trainer.agents = {"a0", "a1"};
  trainer.layout = RowLayout();
  trainer.storage = trainer_storage;
  REQUIRE_OK(world.StatusOf(world.Call(trainer)));
  RegisterPlacementRequest rollout = trainer;
  rollout.placement = "rollout";
  rollout.axes = {{"data", 2}, {"tensor", 1}};
  rollout.agents = {"a2", "a3"};
  rollout.layout = ColumnLayout();
  rollout.storage = Storage::kArena;
  REQUIRE_OK(world.StatusOf(world.Call(rollout)));
}

CallId StartLoad(CoreWorld& world, const std::string& placement,
                 const std::string& request_id) {
  LoadRequest load;
  load.options.request_id = request_id;
  load.model = "policy";
  load.placement = placement;
  load.directory = "/checkpoints/1";
  return world.Call(load);
}

SyncRequest SmallSync(const std::string& request_id) {
  SyncRequest sync;
  sync.options.request_id = request_id;
  sync.model = "policy";
  sync.source = "trainer";
  sync.destinations = {"rollout"};
  return sync;
}

CallId StartSync(CoreWorld& world, const std::string& request_id) {
  return world.Call(SmallSync(request_id));
}

void MakeLoaded(CoreWorld& world) {
  for (const char* name : {"a0", "a1", "a2", "a3"}) world.Join(name);
  DeclareSmall(world);
  REQUIRE_OK(world.StatusOf(StartLoad(world)));
}

SampleEntry Sample(const std::string& id, const std::string& key,
                   int64_t rows) {
  SampleEntry entry;
  entry.sample_id = id;
  entry.key = key;
  entry.dtype = DType::kI32;
  entry.sequence_lengths = {rows};
  return entry;
}

void Put(CoreWorld& world, const std::string& agent,
         const std::vector<SampleEntry>& entries) {
  FakeAgent& putter = world.Agent(agent);
  for (const SampleEntry& entry : entries) {
    putter.samples.push_back(entry);
    putter.owned.push_back(true);
  }
  world.Tell(putter, SamplesAddedEvent{entries}, /*wants_ack=*/true);
}

}  // namespace sluice::coordinator
