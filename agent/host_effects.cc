// What the host does for each effect of the core: see agent/host.h.

#include <algorithm>
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

// Each once.
Memories MemoriesOf(const ExecutionRequest& request) {
  Memories all;
  const auto add = [&all](const BoundPlace& place) {
    const bool known =
        place.memory == nullptr ||
        std::find(all.begin(), all.end(), place.memory) != all.end();
    if (!known) all.push_back(place.memory);
  };
  for (const BoundTransfer& transfer : request.transfers) {
    for (const BoundPiece& piece : transfer.pieces) {
      if (piece.source.has_value()) add(*piece.source);
      for (const BoundPlace& to : piece.destinations) add(to);
    }
  }
  return all;
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

absl::StatusOr<Memories> AgentHost::Prepare(const PrepareExecution& order) {
  SLUICE_ASSIGN_OR_RETURN(ExecutionRequest request,
                          BindPlan(order, self_, deps_.buffers));
  Memories memories = MemoriesOf(request);
  // Peers may ask for sources as soon as the executor knows the operation.
  deps_.sources.Add(request);
  const absl::Status status = executor_->Prepare(std::move(request));
  if (status.ok()) return memories;
  deps_.sources.Remove(order.operation);
  return status;
}

// The vote to begin is given when the memory is there: nobody moves bytes
// before all have given theirs, and nobody's time to move some runs meanwhile.
void AgentHost::Run(PrepareExecution& order) {
  Failpoint("agent.prepare");
  const absl::Time start = deps_.clock.Now();
  absl::StatusOr<Memories> memories = Prepare(order);
  LogInfo("prepared", {{"operation", order.operation},
                       {"transfers", order.part->transfers.size()},
                       {"took", deps_.clock.Now() - start},
                       {"status", memories.status()}});
  const OperationId operation = order.operation;
  if (!memories.ok()) {
    followups_.push_back(ExecutionPreparedEvent{operation, memories.status()});
    return;
  }
  WhenHandedOver(operation, *std::move(memories),
                 [this, operation](absl::Status status) {
                   // It is prepared all the same, and ends as such.
                   Step(ExecutionPreparedEvent{operation, absl::OkStatus()});
                   if (status.ok() || executor_ == nullptr) return;
                   executor_->Abort(operation, std::move(status));
                 });
}

void AgentHost::WhenHandedOver(OperationId operation, Memories memories,
                               Then then) {
  const absl::StatusOr<bool> all = AreHandedOver(memories);
  if (!all.ok() || *all) return std::move(then)(all.status());
  LogInfo("waits for memory to be handed over", {{"operation", operation}});
  Failpoint("agent.hand_over");
  waiting_[operation] = std::move(then);
  hand_over_.Await(
      operation, std::move(memories), [this, operation](absl::Status status) {
        thread_.Post([this, operation, status = std::move(status)]() mutable {
          EndWait(operation, std::move(status));
        });
      });
}

bool AgentHost::EndWait(OperationId operation, absl::Status status) {
  const auto wait = waiting_.find(operation);
  if (wait == waiting_.end()) return false;
  Then then = std::move(wait->second);
  waiting_.erase(wait);
  hand_over_.Forget(operation);
  std::move(then)(std::move(status));
  return true;
}

void AgentHost::Run(StartExecution& order) {
  absl::Status status = executor_->Start(order.operation);
  if (status.ok()) return;
  followups_.push_back(
      ExecutionDoneEvent{order.operation, std::move(status), {}, kNoRank});
}

void AgentHost::Run(AbortExecution& order) {
  LogWarn("abort", {{"operation", order.operation}, {"reason", order.reason}});
  if (EndWait(order.operation, order.reason)) return;
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
  Memories memories;
  if (memory.ok()) memories.push_back(*memory);
  const OperationId operation = order.operation;
  WhenHandedOver(operation, std::move(memories),
                 [this, order = std::move(order),
                  memory = memory.value_or(nullptr)](absl::Status status) {
                   if (status.ok()) return content_->Load(order, memory);
                   Step(LoadDoneEvent{order.operation, std::move(status), {}});
                 });
}

void AgentHost::Run(AbortLoad& order) {
  if (EndWait(order.operation, order.reason)) return;
  content_->AbortLoad(order.operation, std::move(order.reason));
}

void AgentHost::Run(ReadDigests& order) {
  auto memory = deps_.buffers.Get(order.placement.buffer);
  if (!memory.ok() && order.placement.layout->buffer_bytes > 0) {
    followups_.push_back(
        DigestsReadEvent{order.operation, memory.status(), {}});
    return;
  }
  Memories memories;
  if (memory.ok()) memories.push_back(*memory);
  const OperationId operation = order.operation;
  WhenHandedOver(
      operation, std::move(memories),
      [this, order = std::move(order),
       memory = memory.value_or(nullptr)](absl::Status status) {
        if (status.ok()) return content_->ReadDigests(order, memory);
        Step(DigestsReadEvent{order.operation, std::move(status), {}});
      });
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
