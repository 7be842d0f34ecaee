#ifndef SLUICE_TESTS_AGENT_CORE_TEST_AGENT_H_
#define SLUICE_TESTS_AGENT_CORE_TEST_AGENT_H_

// An agent core with the host's answers and a small model, for tests.
//
// Model "m": tensor "w", float32 {8, 4}, rows split over mesh tensor=2; this
// agent is rank 0 and mesh index 0 everywhere, so a copy is 64 bytes,
// rounded up to the parameters' alignment.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "agent/core/agent_core.h"
#include "common/command.h"
#include "common/plan.h"

namespace sluice::agent::testing {

inline constexpr int64_t kCopyBytes = 256;

// What one or more steps ordered.
struct Effects {
  std::vector<Effect> all;

  // Orders of one kind.
  template <typename T>
  std::vector<T> Of() const {
    std::vector<T> found;
    for (const Effect& effect : all) {
      if (const T* order = std::get_if<T>(&effect)) found.push_back(*order);
    }
    return found;
  }
  // Events of one kind told to the coordinator.
  template <typename T>
  std::vector<T> Told() const {
    std::vector<T> found;
    for (const SendEvent& sent : Of<SendEvent>()) {
      if (const T* body = std::get_if<T>(&sent.event.body)) {
        found.push_back(*body);
      }
    }
    return found;
  }
  // Id of the only event of one kind that wants an ack; 0 if there is none.
  template <typename T>
  uint64_t EventIdOf() const {
    for (const SendEvent& sent : Of<SendEvent>()) {
      if (std::holds_alternative<T>(sent.event.body)) {
        return sent.event.event_id;
      }
    }
    return 0;
  }
  // How a command was answered; nullopt if it was not.
  std::optional<absl::Status> ResultOf(CommandId command) const;
  // How a call was answered; nullopt if it was not.
  std::optional<absl::Status> StatusOf(CallId call) const;
  template <typename T>
  T BodyOf(CallId call) const {
    for (const Reply& reply : Of<Reply>()) {
      if (reply.call == call) return std::get<T>(reply.body);
    }
    return T();
  }

  void Append(std::vector<Effect> effects);
};

AgentOptions TestOptions();

class TestAgent {
 public:
  // Registered and welcomed in epoch 1.
  explicit TestAgent(AgentOptions options = TestOptions());
  // Neither registered nor connected.
  static TestAgent Fresh(AgentOptions options = TestOptions());

  // One event and the host's prompt answers to what it orders.
  Effects Do(const Event& event);
  Effects Advance(absl::Duration duration);

  // Sends a command; `last_command()` is its id.
  Effects Send(CommandBody body);
  Effects SendAgain(CommandId id, CommandBody body);
  CommandId last_command() const { return CommandId(next_command_ - 1); }
  // Sends a command and returns its answer. CHECKs that there is one.
  absl::Status Ask(CommandBody body);

  // The same, and CHECKs that it is OK.
  void Must(CommandBody body);

  // A new stream; the Welcome carries the epoch.
  Effects Reconnect(Epoch epoch);

  // A worker's call, made by a lambda that gets the CallId.
  CallId NewCall() { return CallId(next_call_++); }
  SessionId Attach(const std::string& worker);

  // Defines placement "m/<name>"; CHECKs that it is accepted.
  PlacementRef Define(const std::string& name, Storage storage,
                      uint64_t generation = 1);
  // Lends memory with this content; CHECKs that it is accepted. Returns the
  // buffer.
  BufferId Lend(SessionId session, const std::string& placement,
                Version version, int64_t step = 0);
  // Makes `version` the published content of an ARENA placement by a load.
  void Load(const PlacementRef& ref, OperationId operation, Version version);
  // Runs a sync to `dst` up to the vote.
  void SyncToVote(OperationId operation, const PlacementRef& source,
                  const PlacementRef& dst, Version version);
  // Copies of a placement, from a fresh inventory.
  std::vector<CopyInventory> CopiesOf(const std::string& placement);
  InventoryEvent Inventory();

  // Whether the host answers at once.
  bool answer_allocations = true;
  bool answer_prepares = true;
  bool answer_overwrites = true;  // as the lending worker
  absl::Status allocation_answer;
  absl::Status prepare_answer;

  absl::Time now = absl::UnixEpoch();
  Epoch epoch{1};

 private:
  struct Unconnected {};
  TestAgent(AgentOptions options, Unconnected);

  std::unique_ptr<AgentCore> core_;
  uint64_t next_command_ = 1;
  uint64_t next_call_ = 1;
  uint64_t next_lent_ = kHostBufferBit | 1;
};

PlacementDefinition Definition(const std::string& name, Storage storage,
                               uint64_t generation);

// A part of rank 0 in which it copies its share locally (its own source), and
// rank 1 its own.
std::shared_ptr<const PlanPart> LocalPart();
// A part of rank 0 that receives everything from rank 1.
std::shared_ptr<const PlanPart> ReceivingPart();
// A part of rank 0 in which it copies its share locally, and rank 1, of the
// same node, reads the other one from it.
std::shared_ptr<const PlanPart> LendingPart();

PrepareCommand Prepare(OperationId operation, const PlacementRef& source,
                       const std::vector<PlacementRef>& destinations,
                       Version version,
                       std::shared_ptr<const PlanPart> part = LocalPart());

SampleEntry Entry(const std::string& id, const std::string& key,
                  int64_t length);

}  // namespace sluice::agent::testing

#endif  // SLUICE_TESTS_AGENT_CORE_TEST_AGENT_H_
