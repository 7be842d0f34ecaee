// Part of CoordinatorCore: what agents say and what becomes of them.

#include <iterator>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/core/core_state.h"

namespace sluice::coordinator {

void CoordinatorCore::State::Handle(const RegisterAgentEvent& event) {
  agents.Register(event);
}

void CoordinatorCore::State::Handle(const HeartbeatEvent& event) {
  agents.Heartbeat(event);
}

void CoordinatorCore::State::Handle(const DrainEvent& event) {
  agents.Drain(event);
}

void CoordinatorCore::State::Handle(const StreamUpEvent& event) {
  agents.StreamUp(event);
}

void CoordinatorCore::State::Handle(const StreamDownEvent& event) {
  agents.StreamDown(event);
  operations.Wake();
}

void CoordinatorCore::State::Handle(const AgentMessageEvent& event) {
  Agent* agent = agents.Get(event.rank);
  if (agent == nullptr || agent->lost ||
      agent->incarnation != event.event.incarnation) {
    return;  // of a life that has ended
  }
  const uint64_t event_id = event.event.event_id;
  if (event_id != 0 && agents.IsRepeated(event.rank, event_id)) return;
  std::visit([&](const auto& body) { OnMessage(*agent, event_id, body); },
             event.event.body);
}

void CoordinatorCore::State::OnMessage(Agent& agent, uint64_t event_id,
                                       const CommandResult& result) {
  agents.Ack(agent.rank, event_id, absl::OkStatus());
  const std::optional<Command> command =
      agents.Answered(agent.rank, result.command);
  if (!command.has_value()) return;  // answered before
  if (const auto* define =
          std::get_if<DefinePlacementCommand>(&command->body)) {
    definer.OnDefined(agent.rank, define->definition.ref, result.outcome);
    return;
  }
  operations.OnResult(agent.rank, *command, result.outcome);
}

void CoordinatorCore::State::OnMessage(Agent& agent, uint64_t event_id,
                                       const InventoryEvent& page) {
  agents.Ack(agent.rank, event_id, absl::OkStatus());
  // Another one than was asked for may be old.
  if (!agent.inventory_awaited && !agent.inventory_requested) return;
  InventoryEvent& all = agent.collecting;
  const auto append = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  append(all.placements, page.placements);
  append(all.samples, page.samples);
  append(all.owned, page.owned);
  all.owned.resize(all.samples.size());
  append(all.operations, page.operations);
  append(all.undecided, page.undecided);
  append(all.workers, page.workers);
  if (!page.more) TakeInventory(agent);
}

void CoordinatorCore::State::TakeInventory(Agent& agent) {
  TakeSamples(agent, agent.collecting);
  for (Placement* placement :
       definer.OnInventory(agent.rank, agent.collecting.placements)) {
    steps.OnInventory(*placement);
  }
  operations.OnInventory(agent.rank, agent.collecting);
  agents.InventoryComplete(agent.rank);
}

void CoordinatorCore::State::TakeSamples(Agent& agent,
                                         InventoryEvent& inventory) {
  // What is being cleared there is gone already; what was cleared while it was
  // away has to be cleared there, too.
  absl::flat_hash_set<std::pair<std::string, std::string>> clearing;
  for (const auto& [id, command] : agent.outbox.unanswered()) {
    const auto* clear = std::get_if<ClearSamplesCommand>(&command.body);
    if (clear == nullptr) continue;
    for (const std::string& sample : clear->sample_ids) {
      if (clear->keys.empty()) clearing.emplace(sample, "");
      for (const std::string& key : clear->keys) clearing.emplace(sample, key);
    }
  }
  std::vector<SampleEntry> samples;
  std::vector<bool> owned;
  ClearSamplesCommand stale;
  for (size_t i = 0; i < inventory.samples.size(); ++i) {
    SampleEntry& entry = inventory.samples[i];
    if (clearing.contains({entry.sample_id, ""}) ||
        clearing.contains({entry.sample_id, entry.key})) {
      continue;
    }
    if (cleared.contains(entry.sample_id)) {
      if (stale.sample_ids.empty() ||
          stale.sample_ids.back() != entry.sample_id) {
        stale.sample_ids.push_back(entry.sample_id);
      }
      continue;
    }
    samples.push_back(std::move(entry));
    owned.push_back(inventory.owned[i]);
  }
  if (!stale.sample_ids.empty()) agents.Send(agent.rank, std::move(stale));
  std::vector<std::string> conflicts;
  const Catalog::Loss loss =
      catalog.SetHoldings(agent.rank, samples, owned, &conflicts);
  LogLoss(agent.name, loss);
  if (!conflicts.empty()) {
    log.Add("samples_conflict", agent.name,
            absl::StrCat(conflicts.size(),
                         " sample tensors differ from those of other agents; "
                         "the first is ",
                         conflicts[0]));
  }
}

void CoordinatorCore::State::OnMessage(Agent& agent, uint64_t event_id,
                                       const ProgressEvent& event) {
  agents.Ack(agent.rank, event_id, absl::OkStatus());
  operations.OnProgress(agent.rank, event);
}

void CoordinatorCore::State::OnMessage(Agent& agent, uint64_t event_id,
                                       const VoteEvent& event) {
  agents.Ack(agent.rank, event_id, absl::OkStatus());
  operations.OnVote(agent.rank, event);
}

void CoordinatorCore::State::OnMessage(Agent& agent, uint64_t event_id,
                                       const StoppedEvent& event) {
  agents.Ack(agent.rank, event_id, absl::OkStatus());
  operations.OnStopped(agent.rank, event.operation);
}

void CoordinatorCore::State::OnMessage(Agent& agent, uint64_t event_id,
                                       const SamplesAddedEvent& event) {
  const absl::Status status = catalog.Put(agent.rank, event.entries);
  if (status.ok()) {
    for (const SampleEntry& entry : event.entries) {
      cleared.erase(entry.sample_id);  // written anew
    }
  }
  agents.Ack(agent.rank, event_id, status);
}

void CoordinatorCore::State::OnMessage(Agent& agent, uint64_t event_id,
                                       const WriteEvent& event) {
  steps.OnWrite(agent.rank, event_id, event);
  operations.Wake();  // a sync may wait for the bracket's end
}

void CoordinatorCore::State::OnMessage(Agent& agent, uint64_t event_id,
                                       const DigestsEvent& event) {
  agents.Ack(agent.rank, event_id, absl::OkStatus());
  operations.OnDigests(agent.rank, event);
}

void CoordinatorCore::State::OnMessage(Agent& agent, uint64_t event_id,
                                       const WorkersEvent& event) {
  agents.Ack(agent.rank, event_id, absl::OkStatus());
  agent.workers = event.workers;
}

void CoordinatorCore::State::LogLoss(const std::string& agent,
                                     const Catalog::Loss& loss) {
  // While agents are awaited nothing is lost: one of them may hold it.
  if (loss.num_lost == 0 || agents.recovering()) return;
  log.Add("samples_lost", agent,
          absl::StrCat(loss.num_lost, " sample tensors had no other holder: ",
                       absl::StrJoin(loss.lost, ", "),
                       loss.num_lost > static_cast<int64_t>(loss.lost.size())
                           ? ", ..."
                           : ""));
}

void CoordinatorCore::State::OnMembershipChange(
    const MembershipChange& change) {
  if (change.kind != MembershipChange::Kind::kConnectionLost) {
    LogLoss(agents.Get(change.rank)->name, catalog.RemoveHolder(change.rank));
    models.ForgetAgent(change.rank);
  }
  definer.OnMembershipChange(change);
  operations.OnMembershipChange(change);
}

}  // namespace sluice::coordinator
