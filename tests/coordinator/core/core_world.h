#ifndef SLUICE_TESTS_COORDINATOR_CORE_CORE_WORLD_H_
#define SLUICE_TESTS_COORDINATOR_CORE_CORE_WORLD_H_

// The core with everything around it faked: time, store, planner, agents. Runs
// to the end of what can happen without time, or step by step where a test
// holds something back.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/core/coordinator_core.h"
#include "tests/coordinator/core/fake_agent.h"

namespace sluice::coordinator {

class CoreWorld {
 public:
  explicit CoreWorld(CoreOptions options = {});

  // --- time
  absl::Time now() const { return now_; }
  // Lets time pass in ticks, with heartbeats of running agents.
  void Advance(absl::Duration duration);
  // The coordinator does not run for so long (nor do beats reach it).
  void Stall(absl::Duration duration) { now_ += duration; }

  // --- the coordinator
  // Hands an event to the core and runs what follows.
  void Do(Event event);
  // Ends the core and starts another one on the same store. Streams break.
  void Restart();
  // Kills the core; nothing runs until Restart.
  void Kill();
  bool Idle() const { return core_->Idle(); }

  // --- store
  // While true, writes are neither durable nor answered.
  bool hold_writes = false;
  // Writes fail with this.
  absl::Status write_error;
  // Makes the oldest held write durable and answers it.
  void ReleaseWrite();
  // Makes it durable without the core hearing of it (it is killed before).
  void MakeDurableUnheard();
  size_t num_held_writes() const { return held_writes_.size(); }
  const std::map<std::string, Record>& stored() const { return stored_; }
  bool HasStored(const std::string& key_prefix) const;
  int num_writes = 0;

  // --- planner
  bool hold_plans = false;
  absl::Status plan_error;
  void ReleasePlans();
  int num_plans = 0;

  // --- agents
  // Adds an agent and lets it join. Nodes hold two agents each.
  FakeAgent& Join(const std::string& name, bool wait = true);
  FakeAgent& Agent(const std::string& name) { return *agents_.at(name); }
  void Register(FakeAgent& agent);
  // The process ends: its stream breaks, it beats no more.
  void KillAgent(const std::string& name);
  // Starts it again as another incarnation.
  void RestartAgent(const std::string& name);
  // The stream breaks; it comes back with Connect.
  void Disconnect(const std::string& name);
  void Connect(const std::string& name);
  // An event of an agent reaches the core.
  void Tell(FakeAgent& agent, AgentEventBody body, bool wants_ack = false);
  // Redirects: if set, commands go through it first; true means swallowed.
  std::function<bool(FakeAgent&, const Command&)> on_command;

  // --- calls
  CallId NewCall() { return CallId(++last_call_); }
  template <typename Request>
  CallId Call(Request request) {
    request.call = NewCall();
    const CallId call = request.call;
    Do(std::move(request));
    return call;
  }
  // The end of a call; nullopt while it runs.
  const Reply* ReplyTo(CallId call) const;
  // The status a call ended with; UNKNOWN "no reply" while it runs.
  absl::Status StatusOf(CallId call) const;
  template <typename Body>
  const Body& BodyOf(CallId call) const {
    return std::get<Body>(ReplyTo(call)->body);
  }
  const std::vector<OperationUpdate>& UpdatesOf(CallId call) {
    return updates_[call];
  }
  StatusSnapshot Status();
  AgentState StateOf(const std::string& name);
  bool HasEvent(const std::string& kind, const std::string& subject = "");
  const std::optional<absl::Status>& fatal() const { return fatal_; }

 private:
  void Run();
  void RunEffects(std::vector<Effect> effects);
  void RunEffect(const Reply& reply);
  void RunEffect(const StreamUpdate& update);
  void RunEffect(const ConnectAgent& connect);
  void RunEffect(const DisconnectAgent& disconnect);
  void RunEffect(const SendCommand& send);
  void RunEffect(const Persist& persist);
  void RunEffect(const MakePlan& plan);
  void RunEffect(const Fatal& fatal);
  void Store(const Persist& persist);
  void Plan(const MakePlan& plan);
  void Beat();
  FakeAgent* AgentOf(Rank rank);

  const CoreOptions options_;
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  absl::Time next_beat_ = now_;
  std::unique_ptr<CoordinatorCore> core_;
  std::deque<Event> queue_;
  bool running_ = false;
  bool alive_ = false;
  std::map<std::string, Record> stored_;
  std::deque<Persist> held_writes_;
  std::vector<MakePlan> held_plans_;
  std::map<std::string, std::unique_ptr<FakeAgent>> agents_;
  uint64_t last_incarnation_ = 100;
  uint64_t last_call_ = 0;
  std::map<CallId, Reply> replies_;
  std::map<CallId, std::vector<OperationUpdate>> updates_;
  std::optional<absl::Status> fatal_;
};

// --- a small model on it
// -------------------------------------------------------

// Tensors "w" [8, 4] and "b" [8], float32: 160 bytes.
ModelSpec SmallModel(const std::string& name = "policy");
// Splits dimension 0 over "tensor"; replicas over "data".
Layout RowLayout();
// Splits "w" along dimension 1 over "tensor", "b" along dimension 0.
Layout ColumnLayout();

// Declares "policy" with placement "trainer" (data=1 x tensor=2 on a0, a1) and
// "rollout" (arena, data=2 x tensor=1 on a2, a3): two replicas.
void DeclareSmall(CoreWorld& world, Storage trainer_storage = Storage::kArena);
CallId StartLoad(CoreWorld& world, const std::string& placement = "trainer",
                 const std::string& request_id = "");
SyncRequest SmallSync(const std::string& request_id = "");
CallId StartSync(CoreWorld& world, const std::string& request_id = "");
// Four agents, both placements, version 1 loaded into "trainer".
void MakeLoaded(CoreWorld& world);
SampleEntry Sample(const std::string& id, const std::string& key,
                   int64_t rows = 4);
// The agent puts samples and the core hears of it.
void Put(CoreWorld& world, const std::string& agent,
         const std::vector<SampleEntry>& entries);

}  // namespace sluice::coordinator

#endif  // SLUICE_TESTS_COORDINATOR_CORE_CORE_WORLD_H_
