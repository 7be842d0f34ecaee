// Part of AgentRegistry: streams, commands, acks and peers.

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/retry.h"
#include "coordinator/core/agent_registry.h"

namespace sluice::coordinator {
namespace {

// Acks remembered per agent, for events that are sent again.
constexpr size_t kMaxAcks = 4096;

}  // namespace

void AgentRegistry::Welcome(Agent& agent) {
  agent.collecting = {};
  agent.outbox.Drop<WelcomeCommand>([](const auto&) { return true; });
  const Command& command = agent.outbox.Add(
      context_.epoch,
      WelcomeCommand{context_.cluster_id, agent.rank, agent.incarnation});
  context_.Emit(SendCommand{agent.rank, agent.incarnation, command});
}

void AgentRegistry::StreamUp(const StreamUpEvent& event) {
  Agent* agent = Get(event.rank);
  if (agent == nullptr || agent->lost ||
      agent->incarnation != event.incarnation) {
    return;  // of a life that has ended
  }
  agent->stream_up = true;
  agent->connection_lost = false;
  agent->stream_down_since.reset();
  agent->inventory_awaited = true;
  agent->inventory_requested = false;
  Welcome(*agent);
}

void AgentRegistry::StreamDown(const StreamDownEvent& event) {
  Agent* agent = Get(event.rank);
  if (agent == nullptr || agent->lost ||
      agent->incarnation != event.incarnation || !agent->stream_up) {
    return;
  }
  agent->stream_up = agent->inventory_awaited = false;
  agent->stream_down_since = context_.now;
  log_.Add("agent_suspect", agent->name, "its connection broke");
}

void AgentRegistry::RequestInventory(Rank rank) {
  Agent* agent = Get(rank);
  // One that is not reachable tells its inventory when it is.
  if (agent == nullptr || !agent->Reachable()) return;
  agent->inventory_requested = true;
  Welcome(*agent);
}

void AgentRegistry::InventoryComplete(Rank rank) {
  Agent& agent = *Get(rank);
  agent.inventory_requested = false;
  agent.workers = agent.collecting.workers;
  agent.collecting = {};
  if (!std::exchange(agent.inventory_awaited, false)) return;
  if (!agent.inventoried) {
    peers_changed_ = true;
    log_.Add("agent_joined", agent.name,
             absl::StrCat("incarnation ", agent.incarnation.value(), " at ",
                          agent.address, ", rank ", rank.value(), ", node ",
                          agent.node));
  } else {
    log_.Add("agent_back", agent.name, "its connection is back");
  }
  agent.inventoried = true;
  NoLongerAwaited(agent);
  for (const auto& [id, command] : agent.outbox.unanswered()) {
    if (std::holds_alternative<WelcomeCommand>(command.body)) continue;
    context_.Emit(SendCommand{rank, agent.incarnation, command});
  }
}

void AgentRegistry::Send(Rank rank, CommandBody body) {
  Agent* agent = Get(rank);
  if (agent == nullptr || agent->lost || agent->incarnation == Incarnation()) {
    return;
  }
  const Command& command = agent->outbox.Add(context_.epoch, std::move(body));
  if (agent->Reachable()) {
    context_.Emit(SendCommand{rank, agent->incarnation, command});
  }
}

void AgentRegistry::ExecuteAnswered(Rank rank, OperationId operation) {
  Get(rank)->outbox.Drop<ExecuteCommand>(
      [operation](const ExecuteCommand& execute) {
        return execute.operation == operation;
      });
}

std::optional<Command> AgentRegistry::Answered(Rank rank, CommandId id) {
  return Get(rank)->outbox.Answered(id);
}

bool AgentRegistry::IsRepeated(Rank rank, uint64_t event_id) {
  Agent& agent = *Get(rank);
  const auto it = agent.acks.find(event_id);
  if (it != agent.acks.end()) {
    if (it->second.outcome.has_value()) {
      Ack(rank, event_id, *it->second.outcome, it->second.version);
    }
    return true;
  }
  if (agent.acks.size() >= kMaxAcks && event_id < agent.acks.begin()->first) {
    return true;  // older than everything remembered: acked long ago
  }
  agent.acks[event_id];  // not answered yet
  if (agent.acks.size() > kMaxAcks) agent.acks.erase(agent.acks.begin());
  return false;
}

void AgentRegistry::Ack(Rank rank, uint64_t event_id,
                        const absl::Status& outcome, Version version) {
  if (event_id == 0) return;
  Agent& agent = *Get(rank);
  if (const auto it = agent.acks.find(event_id); it != agent.acks.end()) {
    it->second = {outcome, version};
  }
  if (!agent.stream_up) return;  // the agent sends the event again
  context_.Emit(
      SendCommand{rank, agent.incarnation,
                  agent.outbox.Unkept(context_.epoch,
                                      EventAck{event_id, outcome, version})});
}

void AgentRegistry::FlushPeers() {
  if (!peers_changed_) return;
  peers_changed_ = false;
  SetPeersCommand peers;
  for (const std::unique_ptr<Agent>& agent : agents_) {
    if (agent == nullptr || agent->lost || !agent->inventoried) continue;
    peers.peers.push_back(Peer{agent->rank, agent->name, agent->node,
                               agent->incarnation, agent->network_address,
                               agent->socket_path, agent->device});
  }
  for (const Peer& peer : peers.peers) {
    Get(peer.rank)->outbox.Drop<SetPeersCommand>(
        [](const auto&) { return true; });
    Send(peer.rank, peers);
  }
}

absl::Status AgentRegistry::CheckUsable(Rank rank) const {
  const Agent* agent = Get(rank);
  if (agent == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(NameOf(rank), " is not there"));
  }
  switch (agent->State()) {
    case AgentState::kAlive:
      return absl::OkStatus();
    case AgentState::kJoining:
      return absl::UnavailableError(
          absl::StrCat(NameOf(rank), " is joining: its inventory is awaited"));
    case AgentState::kSuspect:
      return absl::UnavailableError(
          absl::StrCat(NameOf(rank), " is suspect: ",
                       agent->beat_late ? "its beats are late"
                                        : "its connection is broken"));
    case AgentState::kDraining:
      return absl::FailedPreconditionError(
          absl::StrCat(NameOf(rank), " is draining"));
    case AgentState::kLost:
    case AgentState::kUnspecified:
      break;
  }
  return absl::FailedPreconditionError(
      absl::StrCat(NameOf(rank), " is not there: it was lost"));
}

std::vector<std::string> AgentRegistry::AwaitedNames() const {
  std::vector<std::string> names;
  for (const std::unique_ptr<Agent>& agent : agents_) {
    if (agent != nullptr && agent->awaited) names.push_back(agent->name);
  }
  return names;
}

absl::Status AgentRegistry::CheckRecovered() const {
  if (!recovering()) return absl::OkStatus();
  return Retryable(absl::UnavailableError(
      absl::StrCat("the coordinator is recovering; it awaits agents ",
                   absl::StrJoin(AwaitedNames(), ", "))));
}

void AgentRegistry::HoldStaging(Rank rank, OperationId operation,
                                int64_t bytes) {
  if (bytes > 0) Get(rank)->staging_held[operation] = bytes;
}

void AgentRegistry::FreeStaging(Rank rank, OperationId operation) {
  if (Agent* agent = Get(rank); agent != nullptr) {
    agent->staging_held.erase(operation);
  }
}

}  // namespace sluice::coordinator
