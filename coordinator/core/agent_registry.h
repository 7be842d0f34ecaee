#ifndef SLUICE_COORDINATOR_CORE_AGENT_REGISTRY_H_
#define SLUICE_COORDINATOR_CORE_AGENT_REGISTRY_H_

// Who is in the cluster: names and ranks, incarnations, leases, command
// streams and the commands under way on them.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/command.h"
#include "coordinator/core/agent.h"
#include "coordinator/core/core_context.h"
#include "coordinator/core/durable_log.h"
#include "coordinator/core/event_log.h"
#include "coordinator/core/records.h"

namespace sluice::coordinator {

// An agent on which something can no longer run.
struct MembershipChange {
  enum class Kind {
    // The stream broke and did not come back within the grace: running
    // operations end; holdings stay.
    kConnectionLost,
    // The lease lapsed: holdings leave.
    kLost,
    // Another incarnation registered: holdings leave.
    kReplaced,
  };
  Kind kind = Kind::kLost;
  Rank rank = kNoRank;
  std::string reason;  // "its lease lapsed"
};

// Owns every Agent ever named in the state directory; ranks are positions.
//
// Thread rule: not thread-safe; used inside Step() only.
//
// Invariants: agents()[r]->rank == r; a rank's name never changes; at most one
// incarnation per name is not lost; commands go to that one only.
class AgentRegistry {
 public:
  AgentRegistry(CoreContext& context, EventLog& log, DurableLog& store)
      : context_(context), log_(log), store_(store) {}

  // Takes over a stored agent: awaited for a lease unless it was gone.
  void Restore(const AgentRecord& record);

  // Errors (as replies): see MembershipService.
  void Register(const RegisterAgentEvent& event);
  void Heartbeat(const HeartbeatEvent& event);
  void Drain(const DrainEvent& event);

  // The command stream to an incarnation is open: says Welcome.
  void StreamUp(const StreamUpEvent& event);
  void StreamDown(const StreamDownEvent& event);
  // Asks a connected agent for its inventory again; commands go on meanwhile.
  void RequestInventory(Rank rank);
  // An inventory is complete. The first one of a stream opens it: what waits in
  // the outbox is sent.
  void InventoryComplete(Rank rank);

  // Ages leases and graces.
  void Tick();
  // The coordinator stood still for `gap`: nobody else is to blame for it.
  void ExtendLeases(absl::Duration gap);
  // Returns what Register and Tick found, oldest first, and forgets it.
  std::vector<MembershipChange> TakeChanges();

  // Returns nullptr if there is no such agent.
  Agent* Find(absl::string_view name);
  Agent* Get(Rank rank);
  const Agent* Get(Rank rank) const;
  const std::vector<std::unique_ptr<Agent>>& agents() const { return agents_; }
  // "agent \"n0-a1\""; for a rank without an agent its number.
  std::string NameOf(Rank rank) const;

  // Whether new work may be planned on it. Errors: UNAVAILABLE - it joins or is
  // suspect; FAILED_PRECONDITION - it is lost, drains or never was.
  absl::Status CheckUsable(Rank rank) const;
  // Errors: UNAVAILABLE - agents of before the restart are awaited (named).
  absl::Status CheckRecovered() const;
  std::vector<std::string> AwaitedNames() const;
  bool recovering() const { return num_awaited_ > 0; }

  // Sends a command, or keeps it until the agent is reachable. Without effect
  // on a lost agent.
  void Send(Rank rank, CommandBody body);
  // The operation's vote or stop came from `rank`: its Execute is answered.
  void ExecuteAnswered(Rank rank, OperationId operation);
  // Takes out the command that a result answers; nullopt if none waits.
  std::optional<Command> Answered(Rank rank, CommandId id);
  // Whether this event is a repetition; if so its ack is repeated.
  bool IsRepeated(Rank rank, uint64_t event_id);
  // Answers an event that wants an ack (event_id not 0).
  void Ack(Rank rank, uint64_t event_id, const absl::Status& outcome,
           Version version = Version());
  // Tells all agents who is live, if that changed since the last time.
  void FlushPeers();

  void HoldStaging(Rank rank, OperationId operation, int64_t bytes);
  void FreeStaging(Rank rank, OperationId operation);

 private:
  absl::Status CheckRegistration(const RegisterAgentEvent& event) const;
  absl::Status CheckReplacement(const Agent& agent,
                                const RegisterAgentEvent& event) const;
  Agent& AddAgent(absl::string_view name);
  // Resets everything that belongs to the life before.
  void BeginLife(Agent& agent, const RegisterAgentEvent& event);
  void Describe(Agent& agent, const RegisterAgentEvent& event);
  // Makes the agent's record durable, then admits it.
  void RecordAndAdmit(Agent& agent, const RegisterAgentEvent& event);
  void Admit(Agent& agent, CallId call);
  // Ends a life: out of the peers, no stream, nothing under way.
  void EndLife(Agent& agent, MembershipChange::Kind kind, std::string reason);
  void Lose(Agent& agent, std::string reason);
  void SetRecordGone(Agent& agent);
  void NoLongerAwaited(Agent& agent);
  absl::Status CheckLife(const Agent* agent, const std::string& name,
                         Incarnation incarnation) const;
  void TickConnection(Agent& agent);
  // Whether so many leases lapse at once that it waits a grace first.
  bool HoldMassExpiry(size_t lapsed, size_t live);
  void Welcome(Agent& agent);

  CoreContext& context_;
  EventLog& log_;
  DurableLog& store_;
  std::vector<std::unique_ptr<Agent>> agents_;  // by rank
  absl::flat_hash_map<std::string, Agent*> by_name_;
  std::vector<MembershipChange> changes_;
  int64_t num_awaited_ = 0;
  bool peers_changed_ = false;
  // Until when leases that lapsed together are held.
  std::optional<absl::Time> mass_expiry_until_;
};

}  // namespace sluice::coordinator

#endif  // SLUICE_COORDINATOR_CORE_AGENT_REGISTRY_H_
