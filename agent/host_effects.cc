// What the host does for each effect of the core: see agent/host.h.

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "agent/host.h"
#include "agent/plan_binder.h"
#include "common/failpoint.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// What an agent that serves a GPU shares memory with: see Peer.device. Empty
// for the host's.
absl::string_view GpuDomainOf(const std::string& device) {
  return absl::StartsWith(device, "cuda") ? device : absl::string_view();
}

}  // namespace

Device& AgentHost::DeviceFor(BufferUse use) {
  Device* device = nullptr;
  switch (use) {
    case BufferUse::kFirstCopy:
      break;
    case BufferUse::kSecondCopy:
      device = deps_.second_copies;
      break;
    case BufferUse::kHostCopy:
      device = deps_.host_copies;
      break;
    case BufferUse::kSamples:
      device = deps_.host_memory;
      break;
  }
  return device != nullptr ? *device : deps_.device;
}

void AgentHost::Run(AllocateBuffer& order) {
  memory_->Allocate(DeviceFor(order.use), std::move(order));
}

void AgentHost::OnAllocated(
    const AllocateBuffer& order,
    absl::StatusOr<std::shared_ptr<MappedMemory>> memory) {
  absl::Status status = memory.status();
  if (status.ok()) {
    // Of samples little may be used; pinned memory has its pages.
    if (order.use != BufferUse::kSamples &&
        (*memory)->space() == MemorySpace::kHost) {
      content_->Touch(*memory);
    }
    status = deps_.buffers.Add(order.buffer, *std::move(memory), order.label);
  }
  if (!status.ok()) {
    LogError(
        "no memory",
        {{"label", order.label}, {"bytes", order.bytes}, {"status", status}});
  }
  Post(BufferAllocatedEvent{order.buffer, std::move(status)});
}

void AgentHost::Run(FreeBuffer& order) {
  memory_->Free(order.buffer, deps_.buffers.Remove(order.buffer));
}

absl::Status AgentHost::Prepare(const PrepareExecution& order) {
  SLUICE_ASSIGN_OR_RETURN(ExecutionRequest request,
                          BindPlan(order, self_, deps_.buffers));
  // Peers may ask for sources as soon as the executor knows the operation.
  deps_.sources.Add(request);
  absl::Status status = executor_->Prepare(std::move(request));
  if (!status.ok()) deps_.sources.Remove(order.operation);
  return status;
}

void AgentHost::Run(PrepareExecution& order) {
  Failpoint("agent.prepare");
  const absl::Time start = deps_.clock.Now();
  absl::Status status = Prepare(order);
  LogInfo("prepared", {{"operation", order.operation},
                       {"transfers", order.part->transfers.size()},
                       {"took", deps_.clock.Now() - start},
                       {"status", status}});
  followups_.push_back(
      ExecutionPreparedEvent{order.operation, std::move(status)});
}

void AgentHost::Run(StartExecution& order) {
  absl::Status status = executor_->Start(order.operation);
  if (status.ok()) return;
  followups_.push_back(
      ExecutionDoneEvent{order.operation, std::move(status), {}, kNoRank});
}

void AgentHost::Run(AbortExecution& order) {
  LogWarn("abort", {{"operation", order.operation}, {"reason", order.reason}});
  executor_->Abort(order.operation, std::move(order.reason));
}

void AgentHost::Run(ReleaseExecution& order) {
  Failpoint("agent.release");
  deps_.sources.Remove(order.operation);
  executor_->Release(order.operation);
}

void AgentHost::Run(StartLoad& order) {
  auto memory = deps_.buffers.Get(order.placement.buffer);
  if (!memory.ok() && order.placement.layout->buffer_bytes > 0) {
    followups_.push_back(LoadDoneEvent{order.operation, memory.status(), {}});
    return;
  }
  content_->Load(std::move(order), memory.value_or(nullptr));
}

void AgentHost::Run(AbortLoad& order) {
  content_->AbortLoad(order.operation, std::move(order.reason));
}

void AgentHost::Run(ReadDigests& order) {
  auto memory = deps_.buffers.Get(order.placement.buffer);
  if (!memory.ok() && order.placement.layout->buffer_bytes > 0) {
    followups_.push_back(
        DigestsReadEvent{order.operation, memory.status(), {}});
    return;
  }
  content_->ReadDigests(std::move(order), memory.value_or(nullptr));
}

void AgentHost::Run(ForgetContent& order) {
  executor_->ForgetContent(order.content_key);
}

void AgentHost::Run(SendEvent& order) {
  if (stream_ == nullptr) return;
  const bool votes = std::holds_alternative<VoteEvent>(order.event.body);
  if (votes) Failpoint("agent.before_vote");
  stream_->Send(order.event);
  if (votes) Failpoint("agent.after_vote");
}

void AgentHost::Run(SetPeers& order) {
  deps_.peers.SetPeers(order.peers);
  // What is with those who are gone ends for that reason, before the executor
  // lets go of them; who begins with others finds that the executor knows them.
  if (deps_.before_peers) deps_.before_peers(order.peers);
  absl::flat_hash_map<Rank, Peer> remote;
  for (const Peer& peer : order.peers) {
    const bool reached =
        peer.node == options_.node &&
        GpuDomainOf(peer.device) == GpuDomainOf(options_.device);
    if (peer.rank == self_ || reached) continue;
    const auto known = remote_peers_.find(peer.rank);
    if (known == remote_peers_.end() ||
        known->second.incarnation != peer.incarnation ||
        known->second.network_address != peer.network_address) {
      const absl::Status status =
          executor_->SetPeer(peer.rank, peer.incarnation, peer.network_address);
      if (!status.ok()) {
        LogError("peer refused", {{"peer", peer.name}, {"status", status}});
      }
    }
    remote[peer.rank] = peer;
  }
  for (const auto& [rank, peer] : remote_peers_) {
    if (!remote.contains(rank)) executor_->DropPeer(rank);
  }
  remote_peers_ = std::move(remote);
  if (deps_.on_peers) deps_.on_peers(order.peers);
}

void AgentHost::Run(agent::CloseStream& order) {
  if (stream_ == nullptr) return;
  LogWarn("command stream closed", {{"reason", order.reason}});
  std::exchange(stream_, nullptr)->Close(order.reason);
  followups_.push_back(StreamDownEvent{});
}

void AgentHost::Run(Reply& order) {
  if (!order.status.ok() ||
      !std::holds_alternative<TakeMemoryReply>(order.body)) {
    Answer(order);
    return;
  }
  // Whoever makes memory by itself finds what the core has counted as free.
  memory_->WhenFreed([this, order = std::move(order)]() mutable {
    thread_.Post([this, order = std::move(order)]() mutable {
      Answer(order);
      UpdateIdle();
    });
  });
}

void AgentHost::Answer(Reply& order) {
  const auto it = calls_.find(order.call);
  if (it == calls_.end()) return;  // abandoned
  ReplyCallback done = std::move(it->second);
  calls_.erase(it);
  std::move(done)(order.status, order.body);
}

void AgentHost::Run(TellVersion& order) {
  for (const auto& [id, session] : sessions_) session.tell(order);
}

}  // namespace sluice::agent
