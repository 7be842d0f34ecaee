// Registration, leases and their end. Streams and commands:
// agent_connection.cc.

#include "coordinator/core/agent_registry.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sluice::coordinator {
namespace {

constexpr size_t kMaxNameBytes = 128;
constexpr size_t kMaxPathBytes = 4096;
constexpr size_t kMaxReplaced = 8;
// Beats missed before an agent is suspect.
constexpr int kLateBeats = 3;
// How many leases a start waits for agents that beat but do not join.
constexpr int kMaxRecoveryLeases = 3;

absl::Status CheckText(absl::string_view field, const std::string& value,
                       size_t most, bool may_be_empty) {
  if (value.size() > most || (value.empty() && !may_be_empty)) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": expected ", may_be_empty ? 0 : 1, " to ", most,
                     " bytes, got ", value.size()));
  }
  return absl::OkStatus();
}

}  // namespace

void AgentRegistry::Restore(const AgentRecord& record) {
  // Ranks were given in order; a gap is an agent that was never answered.
  while (static_cast<int64_t>(agents_.size()) <= record.rank.value()) {
    agents_.push_back(nullptr);
  }
  auto agent = std::make_unique<Agent>();
  agent->name = record.name;
  agent->rank = record.rank;
  agent->node = record.node;
  agent->lost = record.gone;
  agent->awaited = !record.gone;
  agent->recorded = !record.gone;
  agent->lease_until = context_.now + context_.options.lease;
  if (agent->awaited) ++num_awaited_;
  by_name_[record.name] = agent.get();
  agents_[static_cast<size_t>(record.rank.value())] = std::move(agent);
}

Agent* AgentRegistry::Find(absl::string_view name) {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

Agent* AgentRegistry::Get(Rank rank) {
  if (rank.value() < 0 ||
      rank.value() >= static_cast<int64_t>(agents_.size())) {
    return nullptr;
  }
  return agents_[static_cast<size_t>(rank.value())].get();
}

const Agent* AgentRegistry::Get(Rank rank) const {
  return const_cast<AgentRegistry*>(this)->Get(rank);
}

std::string AgentRegistry::NameOf(Rank rank) const {
  const Agent* agent = Get(rank);
  if (agent == nullptr) return absl::StrCat("rank ", rank.value());
  return absl::StrCat("agent \"", agent->name, "\"");
}

Agent& AgentRegistry::AddAgent(absl::string_view name) {
  auto agent = std::make_unique<Agent>();
  agent->name = std::string(name);
  agent->rank = Rank(static_cast<int32_t>(agents_.size()));
  by_name_[agent->name] = agent.get();
  agents_.push_back(std::move(agent));
  return *agents_.back();
}

absl::Status AgentRegistry::CheckRegistration(
    const RegisterAgentEvent& event) const {
  for (const auto& [field, value, most, may_be_empty] :
       {std::tuple("name", &event.name, kMaxNameBytes, false),
        std::tuple("node", &event.node, kMaxNameBytes, false),
        std::tuple("address", &event.address, kMaxPathBytes, false),
        std::tuple("socket_path", &event.socket_path, kMaxPathBytes, true),
        std::tuple("network_address", &event.network_address, kMaxPathBytes,
                   true),
        std::tuple("device", &event.device, kMaxNameBytes, true),
        std::tuple("device_description", &event.device_description,
                   kMaxPathBytes, true)}) {
    if (absl::Status s = CheckText(field, *value, most, may_be_empty);
        !s.ok()) {
      return s;
    }
  }
  if (event.incarnation == Incarnation()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "agent \"", event.name, "\": incarnation: expected not 0"));
  }
  if (event.memory_bytes < 0 || event.staging_bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "agent \"", event.name, "\": expected sizes of 0 or more, got memory ",
        event.memory_bytes, ", staging ", event.staging_bytes));
  }
  if (!event.cluster_id.empty() && event.cluster_id != context_.cluster_id) {
    return absl::FailedPreconditionError(absl::StrCat(
        "agent \"", event.name, "\" belongs to cluster ", event.cluster_id,
        ", this is cluster ", context_.cluster_id));
  }
  return absl::OkStatus();
}

absl::Status AgentRegistry::CheckReplacement(
    const Agent& agent, const RegisterAgentEvent& event) const {
  if (std::find(agent.replaced.begin(), agent.replaced.end(),
                event.incarnation) != agent.replaced.end()) {
    return absl::AbortedError(absl::StrCat(
        "agent \"", agent.name, "\": incarnation ", event.incarnation.value(),
        " was replaced by ", agent.incarnation.value()));
  }
  // A process that restarted has closed its stream; one that has not and still
  // beats is another live process of the same name.
  const bool beats = context_.now - agent.last_beat <=
                     kLateBeats * context_.options.heartbeat_interval;
  if (!agent.lost && agent.stream_up && beats &&
      agent.address != event.address &&
      agent.incarnation != event.incarnation) {
    return absl::AlreadyExistsError(absl::StrCat(
        "agent \"", agent.name, "\" is alive at ", agent.address,
        " (incarnation ", agent.incarnation.value(), ", pid ", agent.pid, "); ",
        event.address, " must not use its name"));
  }
  return absl::OkStatus();
}

void AgentRegistry::Register(const RegisterAgentEvent& event) {
  absl::Status status = CheckRegistration(event);
  Agent* agent = Find(event.name);
  if (status.ok() && agent != nullptr) {
    status = CheckReplacement(*agent, event);
  }
  if (status.ok() && agent == nullptr &&
      static_cast<int64_t>(agents_.size()) >= context_.options.max_agents) {
    status = absl::ResourceExhaustedError(absl::StrCat(
        "agent \"", event.name, "\": the cluster has ", agents_.size(),
        " agents, at most ", context_.options.max_agents, " are allowed"));
  }
  if (!status.ok()) {
    context_.ReplyError(event.call, std::move(status));
    return;
  }
  if (agent == nullptr) agent = &AddAgent(event.name);
  if (agent->incarnation == event.incarnation && !agent->lost) {
    if (agent->address != event.address) agent->connecting = false;
    Describe(*agent, event);
  } else {
    if (agent->incarnation != Incarnation() && !agent->lost) {
      EndLife(*agent, MembershipChange::Kind::kReplaced,
              absl::StrCat("it started again as incarnation ",
                           event.incarnation.value()));
    }
    BeginLife(*agent, event);
  }
  agent->last_beat = context_.now;
  agent->lease_until = context_.now + context_.options.lease;
  RecordAndAdmit(*agent, event);
}

void AgentRegistry::Describe(Agent& agent, const RegisterAgentEvent& event) {
  if (agent.node != event.node) agent.recorded = false;
  agent.node = event.node;
  agent.address = event.address;
  agent.socket_path = event.socket_path;
  agent.network_address = event.network_address;
  agent.device = event.device;
  agent.device_description = event.device_description;
  agent.memory_bytes = event.memory_bytes;
  agent.staging_bytes = event.staging_bytes;
  agent.pid = event.pid;
  agent.nccl_version = event.nccl_version;
  agent.nccl_device = event.nccl_device;
}

void AgentRegistry::BeginLife(Agent& agent, const RegisterAgentEvent& event) {
  if (agent.incarnation != Incarnation() &&
      agent.incarnation != event.incarnation) {
    agent.replaced.push_back(agent.incarnation);
    if (agent.replaced.size() > kMaxReplaced) agent.replaced.pop_front();
  }
  agent.incarnation = event.incarnation;
  agent.lost = agent.draining = agent.beat_late = false;
  agent.connecting = agent.stream_up = false;
  agent.inventory_awaited = agent.inventory_requested = false;
  agent.inventoried = agent.connection_lost = false;
  agent.stream_down_since.reset();
  agent.collecting = {};
  agent.outbox.Clear();
  agent.acks.clear();
  agent.workers.clear();
  agent.known_parts.clear();
  agent.staging_held.clear();
  Describe(agent, event);
}

void AgentRegistry::RecordAndAdmit(Agent& agent,
                                   const RegisterAgentEvent& event) {
  if (agent.recorded) {
    Admit(agent, event.call);
    return;
  }
  AgentRecord record{agent.name, agent.rank, agent.node, /*gone=*/false};
  const Rank rank = agent.rank;
  const Incarnation incarnation = agent.incarnation;
  const CallId call = event.call;
  store_.Write({std::move(record)}, [this, rank, incarnation,
                                     call](const absl::Status& status) {
    Agent& recorded = *Get(rank);
    if (!status.ok()) {
      context_.ReplyError(call, status);
    } else if (recorded.incarnation != incarnation || recorded.lost) {
      context_.ReplyError(
          call, absl::AbortedError(absl::StrCat(
                    NameOf(rank), ": incarnation ", incarnation.value(),
                    " was replaced while it registered")));
    } else {
      recorded.recorded = true;
      Admit(recorded, call);
    }
  });
}

void AgentRegistry::Admit(Agent& agent, CallId call) {
  if (!agent.connecting) {
    agent.connecting = true;
    context_.Emit(ConnectAgent{agent.rank, agent.incarnation, agent.address});
  }
  context_.ReplyOk(
      call, RegisterAgentReply{agent.rank, context_.epoch, context_.cluster_id,
                               context_.options.lease,
                               context_.options.heartbeat_interval});
}

absl::Status AgentRegistry::CheckLife(const Agent* agent,
                                      const std::string& name,
                                      Incarnation incarnation) const {
  if (agent == nullptr || agent->incarnation == Incarnation()) {
    return absl::NotFoundError(
        absl::StrCat("agent \"", name, "\" is not registered with epoch ",
                     context_.epoch.value(), "; register again"));
  }
  if (agent->incarnation != incarnation) {
    return absl::AbortedError(
        absl::StrCat("agent \"", name, "\": incarnation ", incarnation.value(),
                     " was replaced by ", agent->incarnation.value()));
  }
  if (agent->lost) {
    return absl::AbortedError(absl::StrCat("agent \"", name, "\": incarnation ",
                                           incarnation.value(),
                                           ": its lease has lapsed"));
  }
  return absl::OkStatus();
}

void AgentRegistry::Heartbeat(const HeartbeatEvent& event) {
  Agent* agent = Find(event.name);
  absl::Status status = CheckLife(agent, event.name, event.incarnation);
  if (!status.ok()) {
    context_.ReplyError(event.call, std::move(status));
    return;
  }
  agent->last_beat = context_.now;
  agent->lease_until = context_.now + context_.options.lease;
  agent->reduce_groups = event.reduce_groups;
  agent->nccl = event.nccl;
  if (agent->beat_late) {
    agent->beat_late = false;
    log_.Add("agent_beats", agent->name, "its beats are back");
  }
  context_.ReplyOk(event.call, HeartbeatReply{context_.epoch});
}

void AgentRegistry::Drain(const DrainEvent& event) {
  Agent* agent = Find(event.name);
  absl::Status status = CheckLife(agent, event.name, event.incarnation);
  if (!status.ok()) {
    context_.ReplyError(event.call, std::move(status));
    return;
  }
  if (!agent->draining) log_.Add("agent_draining", agent->name, "it leaves");
  agent->draining = true;
  NoLongerAwaited(*agent);
  agent->recorded = false;
  AgentRecord record{agent->name, agent->rank, agent->node, /*gone=*/true};
  const CallId call = event.call;
  store_.Write({std::move(record)}, [this, call](const absl::Status& status) {
    if (status.ok()) {
      context_.ReplyOk(call, DrainReply{});
    } else {
      context_.ReplyError(call, status);
    }
  });
}

void AgentRegistry::NoLongerAwaited(Agent& agent) {
  if (!agent.awaited) return;
  agent.awaited = false;
  if (--num_awaited_ == 0) {
    log_.Add("recovered", context_.cluster_id,
             absl::StrCat("epoch ", context_.epoch.value(),
                          ": nobody is awaited any more"));
  }
}

void AgentRegistry::EndLife(Agent& agent, MembershipChange::Kind kind,
                            std::string reason) {
  if (agent.inventoried) peers_changed_ = true;
  agent.stream_up = agent.inventory_awaited = false;
  agent.outbox.Clear();
  agent.reduce_groups.clear();
  agent.nccl = {};
  agent.staging_held.clear();
  agent.known_parts.clear();
  log_.Add(
      kind == MembershipChange::Kind::kLost ? "agent_lost" : "agent_replaced",
      agent.name, reason);
  changes_.push_back({kind, agent.rank, std::move(reason)});
}

void AgentRegistry::SetRecordGone(Agent& agent) {
  agent.recorded = false;
  store_.WriteUntilDone(
      {AgentRecord{agent.name, agent.rank, agent.node, /*gone=*/true}});
}

void AgentRegistry::Lose(Agent& agent, std::string reason) {
  agent.lost = true;
  if (agent.connecting) context_.Emit(DisconnectAgent{agent.rank});
  agent.connecting = false;
  EndLife(agent, MembershipChange::Kind::kLost, std::move(reason));
  SetRecordGone(agent);
  NoLongerAwaited(agent);
}

bool AgentRegistry::HoldMassExpiry(size_t lapsed, size_t live) {
  // One agent is never a crowd; a crowd is more than 30 % at once.
  if (lapsed < 2 || 10 * lapsed <= 3 * live) {
    mass_expiry_until_.reset();
    return false;
  }
  if (!mass_expiry_until_.has_value()) {
    mass_expiry_until_ = context_.now + context_.options.suspect_grace;
    log_.Add(
        "mass_expiry_held", context_.cluster_id,
        absl::StrCat("the leases of ", lapsed, " of ", live,
                     " agents lapsed at once: held for ",
                     absl::FormatDuration(context_.options.suspect_grace)));
  }
  return context_.now < *mass_expiry_until_;
}

void AgentRegistry::TickConnection(Agent& agent) {
  const bool late = agent.incarnation != Incarnation() &&
                    context_.now - agent.last_beat >
                        kLateBeats * context_.options.heartbeat_interval;
  if (late && !agent.beat_late) {
    agent.beat_late = true;
    log_.Add("agent_suspect", agent.name,
             absl::StrCat("no beat for ", absl::FormatDuration(
                                              context_.now - agent.last_beat)));
  }
  if (agent.awaited && agent.incarnation != Incarnation() &&
      context_.now - context_.started >
          kMaxRecoveryLeases * context_.options.lease) {
    NoLongerAwaited(agent);
  }
  if (!agent.stream_down_since.has_value() || agent.connection_lost ||
      context_.now - *agent.stream_down_since <
          context_.options.suspect_grace) {
    return;
  }
  agent.connection_lost = true;
  const std::string reason =
      absl::StrCat("its connection broke and was not back within ",
                   absl::FormatDuration(context_.options.suspect_grace));
  if (agent.draining) {
    Lose(agent, "it drained and closed its connection");
  } else {
    log_.Add("agent_suspect", agent.name, reason);
    changes_.push_back(
        {MembershipChange::Kind::kConnectionLost, agent.rank, reason});
  }
}

void AgentRegistry::Tick() {
  std::vector<Agent*> lapsed;
  size_t live = 0;
  for (const std::unique_ptr<Agent>& agent : agents_) {
    if (agent == nullptr || agent->lost) continue;
    TickConnection(*agent);
    if (agent->lost) continue;
    ++live;
    if (agent->lease_until <= context_.now) lapsed.push_back(agent.get());
  }
  if (lapsed.empty() || HoldMassExpiry(lapsed.size(), live)) return;
  for (Agent* agent : lapsed) {
    Lose(*agent, agent->incarnation == Incarnation()
                     ? "it did not come back after the coordinator's restart"
                     : absl::StrCat("its lease lapsed: no beat for ",
                                    absl::FormatDuration(context_.now -
                                                         agent->last_beat)));
  }
}

void AgentRegistry::ExtendLeases(absl::Duration gap) {
  for (const std::unique_ptr<Agent>& agent : agents_) {
    if (agent == nullptr || agent->lost) continue;
    agent->lease_until += gap;
    agent->last_beat += gap;
    if (agent->stream_down_since.has_value()) {
      *agent->stream_down_since += gap;
    }
  }
  if (mass_expiry_until_.has_value()) *mass_expiry_until_ += gap;
}

std::vector<MembershipChange> AgentRegistry::TakeChanges() {
  return std::exchange(changes_, {});
}

}  // namespace sluice::coordinator
