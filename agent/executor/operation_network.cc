// What moves between nodes: windows of messages per peer.

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/executor/operation.h"
#include "common/failpoint.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Messages with the transport, per peer and direction: enough that one is
// always under way while another ends and the next is made ready.
constexpr int kWindow = 4;
// Of these, in staging buffers: one is packed while the other is sent.
constexpr int kStagedWindow = 2;

// Tags: a zero, 19 bits of the operation, 24 of the transfer, 20 of the
// message. Those of collectives begin with a one (agent/collective/net_side.h).
constexpr int kMessageBits = 20;
constexpr int kTransferBits = 24;
constexpr uint64_t kOperationMask = (uint64_t{1} << 19) - 1;
constexpr size_t kDigestMessage = (size_t{1} << kMessageBits) - 1;

static_assert(sizeof(Digest) == 16, "the digest's message is its two lanes");

}  // namespace

uint64_t TransferOperation::TagOf(OperationId operation, uint32_t transfer,
                                  size_t message) {
  return (operation.value() & kOperationMask)
             << (kMessageBits + kTransferBits) |
         uint64_t{transfer} << kMessageBits | message;
}

absl::Status TransferOperation::BindRemote(Transfer& transfer) {
  const BoundTransfer& plan = transfer.stream.transfer();
  transfer.messages = CutMessages(transfer.stream.segments());
  if (transfer.messages.size() >= kDigestMessage ||
      plan.id >= uint32_t{1} << kTransferBits) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(transfer), ": too many messages or transfers"));
  }
  const bool sends = plan.source == request_.self;
  const Rank rank = sends ? plan.destination : plan.source;
  auto& remote = remotes_[rank];
  if (remote == nullptr) remote = std::make_unique<Remote>();
  remote->rank = rank;
  remote->by_lane = ByLane(rank);
  transfer.remote = remote.get();
  Remote::Direction& way = sends ? remote->sends : remote->receives;
  way.transfers.push_back(&transfer);
  transfer.first_message = way.messages;
  way.messages += static_cast<int64_t>(transfer.messages.size());
  return absl::OkStatus();
}

void TransferOperation::BeginLane() {
  if (lane_ == nullptr) return;
  absl::flat_hash_map<Rank, MessageLane::Counts> counts;
  for (const auto& [rank, remote] : remotes_) {
    if (!remote->by_lane) continue;
    counts[rank] = {remote->sends.messages, remote->receives.messages};
  }
  lane_->Begin(counts);
}

const std::byte* TransferOperation::RunOf(const Transfer& transfer,
                                          const StreamMessage& m) const {
  if (transfer.remote->by_lane) return nullptr;  // only in the lane's memory
  return transfer.stream.transfer().source == request_.self
             ? transfer.stream.SourceRun(m.lo, m.hi)
             : LandingRun(transfer, m);
}

std::byte* TransferOperation::LandingRun(const Transfer& transfer,
                                         const StreamMessage& m) const {
  if (stage_landings_ || transfer.remote->by_lane) return nullptr;
  return transfer.stream.DestinationRun(m.lo, m.hi);
}

std::pair<int64_t, int64_t> TransferOperation::LargestStaged() const {
  int64_t largest_send = 0;
  int64_t largest_receive = 0;
  for (const auto& transfer : transfers_) {
    const bool sends = transfer->stream.transfer().source == request_.self;
    for (const StreamMessage& m : transfer->messages) {
      if (RunOf(*transfer, m) != nullptr) continue;
      int64_t& largest = sends ? largest_send : largest_receive;
      largest = std::max(largest, StagingBuffers::Capacity(m.bytes()));
    }
  }
  return {largest_send, largest_receive};
}

absl::Status TransferOperation::SizeStaging() {
  const int64_t budget = request_.staging_budget_bytes;
  stage_landings_ = request_.digests;
  auto [largest_send, largest_receive] = LargestStaged();
  if (stage_landings_ && 2 * (largest_send + largest_receive) > budget) {
    stage_landings_ = false;
    std::tie(largest_send, largest_receive) = LargestStaged();
  }
  // Each direction gets what it needs, then half of the rest.
  const int64_t needs = 2 * (largest_send + largest_receive);
  if (needs > budget) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "needs ", needs, " bytes of staging, the budget is ", budget));
  }
  const int64_t rest = (budget - needs) / 2;
  MutexLock lock(mutex_);
  send_staging_ = StagingShare(2 * largest_send + rest, largest_send);
  receive_staging_ = StagingShare(2 * largest_receive + rest, largest_receive);
  return absl::OkStatus();
}

TransferOperation::Transfer* TransferOperation::Remote::Direction::Next() {
  while (at < transfers.size() &&
         transfers[at]->next_message == transfers[at]->messages.size()) {
    ++at;
  }
  return at < transfers.size() ? transfers[at] : nullptr;
}

std::optional<StagingBuffer> TransferOperation::TakeStagingLocked(
    Remote& remote, Remote::Direction Remote::*way, int64_t bytes) {
  Remote::Direction& direction = remote.*way;
  if (direction.staged >= kStagedWindow) return std::nullopt;
  const size_t order = direction.Next()->order;
  bool front = true;
  for (const auto& [rank, other] : remotes_) {
    const Transfer* next = ((*other).*way).Next();
    front &= next == nullptr || next->order >= order;
  }
  StagingShare& share =
      way == &Remote::sends ? send_staging_ : receive_staging_;
  if (!share.Take(StagingBuffers::Capacity(bytes), front)) return std::nullopt;
  stats_.peak_staging_bytes =
      std::max(stats_.peak_staging_bytes,
               send_staging_.used() + receive_staging_.used());
  const StagingBuffer buffer = BuffersOf(remote).Get(bytes);
  if (remote.by_lane && !buffer.movers) {
    share.Release(buffer.bytes);
    BuffersOf(remote).Put(buffer);
    FailLocked(absl::ResourceExhaustedError(absl::StrCat(
                   "no memory of the GPU for a message of ", bytes, " bytes")),
               kNoRank);
    return std::nullopt;
  }
  ++direction.staged;
  return buffer;
}

void TransferOperation::ReleaseStagingLocked(Remote& remote,
                                             Remote::Direction Remote::*way,
                                             StagingBuffer buffer) {
  if (buffer.data == nullptr) return;
  (way == &Remote::sends ? send_staging_ : receive_staging_)
      .Release(buffer.bytes);
  --(remote.*way).staged;
  BuffersOf(remote).Put(buffer);
}

void TransferOperation::PumpAllSendsLocked() {
  for (const auto& [rank, remote] : remotes_) PumpSendsLocked(*remote);
}

void TransferOperation::PumpAllReceivesLocked() {
  for (const auto& [rank, remote] : remotes_) PumpReceivesLocked(*remote);
}

void TransferOperation::PumpSendsLocked(Remote& remote) {
  if (!started_) return;
  while (!failed_ && remote.sends.out < kWindow) {
    Transfer* transfer = remote.sends.Next();
    if (transfer == nullptr) return;
    const size_t index = transfer->next_message;
    const StreamMessage m = transfer->messages[index];
    if (m.hi > transfer->available) return;
    const std::byte* run = RunOf(*transfer, m);
    StagingBuffer buffer;
    if (run == nullptr) {
      const auto taken = TakeStagingLocked(remote, &Remote::sends, m.bytes());
      if (!taken.has_value()) return;
      buffer = *taken;
    }
    ++transfer->next_message;
    ++remote.sends.out;
    bool fused = false;
    if (!transfer->fused.empty()) {
      const size_t last = transfer->stream.SegmentAt(m.hi - 1);
      for (size_t s = transfer->stream.SegmentAt(m.lo); s <= last; ++s) {
        fused |= transfer->fused[s];
      }
    }
    if (run != nullptr && !fused) {
      SendLocked(*transfer, index, run, buffer);
    } else {
      EnqueueLocked(
          [this, transfer, index, run, buffer, fused] {
            PackAndSend(*transfer, index, run, buffer, fused);
          },
          /*urgent=*/true);
    }
  }
}

void TransferOperation::PackAndSend(Transfer& transfer, size_t message,
                                    const std::byte* run, StagingBuffer buffer,
                                    bool digest) {
  const StreamMessage m = transfer.messages[message];
  if (run == nullptr && !failed_) {
    {
      MutexLock lock(mutex_);
      WorkBegunLocked();
    }
    transfer.stream.StartPack(
        m.lo, m.hi, buffer.data, digest,
        [self = shared_from_this(), &transfer, message, buffer](
            absl::Status moved, const std::vector<SegmentDigest>& parts) {
          self->OnPacked(transfer, message, buffer.data, buffer, moved, parts);
          MutexLock lock(self->mutex_);
          self->WorkOverLocked();
        });
    return;
  }
  // After a failure only the buffer is given back.
  std::vector<SegmentDigest> parts;
  absl::Status moved;
  if (!failed_) moved = transfer.stream.DigestSource(m.lo, m.hi, parts);
  OnPacked(transfer, message, run, buffer, moved, parts);
}

void TransferOperation::OnPacked(Transfer& transfer, size_t message,
                                 const std::byte* data, StagingBuffer buffer,
                                 const absl::Status& moved,
                                 const std::vector<SegmentDigest>& parts) {
  const StreamMessage m = transfer.messages[message];
  MutexLock lock(mutex_);
  FailIfLocked(transfer, moved);
  SendLocked(transfer, message, data, buffer);
  if (!failed_) AddSourceDigestsLocked(transfer, m.lo, m.hi, parts);
}

void TransferOperation::SendLocked(Transfer& transfer, size_t message,
                                   const std::byte* data,
                                   StagingBuffer buffer) {
  if (failed_) {
    // Nothing is sent after the group was cancelled.
    ReleaseStagingLocked(*transfer.remote, &Remote::sends, buffer);
    return;
  }
  Failpoint("agent.bytes", transfer.messages[message].bytes());
  ++active_;
  NetworkBusyLocked(1);
  auto done = [self = shared_from_this(), &transfer,
               buffer](absl::Status status) {
    self->OnSent(transfer, buffer, std::move(status));
  };
  const Rank peer = transfer.remote->rank;
  const int64_t bytes = transfer.messages[message].bytes();
  if (transfer.remote->by_lane) {
    lane_->Send(peer, transfer.first_message + static_cast<int64_t>(message),
                buffer.data, bytes, std::move(done));
    return;
  }
  deps_.transport.Send(id().value(), static_cast<uint64_t>(peer.value()),
                       TagOf(id(), transfer.id(), message), data, bytes,
                       std::move(done));
}

void TransferOperation::OnSent(Transfer& transfer, StagingBuffer buffer,
                               absl::Status status) {
  std::vector<Job> here;
  {
    MutexLock lock(mutex_);
    here_ = &here;
    OnSentLocked(transfer, buffer, std::move(status));
    here_ = nullptr;
  }
  for (Job& job : here) std::move(job)();
}

void TransferOperation::OnSentLocked(Transfer& transfer, StagingBuffer buffer,
                                     absl::Status status) {
  NetworkBusyLocked(-1);
  Remote& remote = *transfer.remote;
  ReleaseStagingLocked(remote, &Remote::sends, buffer);
  --remote.sends.out;
  if (!status.ok()) {
    FailLocked(Annotate(status, absl::StrCat("sending ", Describe(transfer))),
               BlamedBy(remote));
  } else {
    ProgressLocked();
    CountSentLocked(transfer);
    if (buffer.data != nullptr) {
      PumpAllSendsLocked();
    } else {
      PumpSendsLocked(remote);
    }
  }
  ActivityOverLocked();
}

void TransferOperation::SendDigestLocked(Transfer& transfer) {
  if (failed_) return;
  ++active_;
  deps_.transport.Send(
      id().value(), static_cast<uint64_t>(transfer.remote->rank.value()),
      TagOf(id(), transfer.id(), kDigestMessage), &transfer.source_total,
      sizeof(Digest),
      [self = shared_from_this(), &transfer](absl::Status status) {
        MutexLock lock(self->mutex_);
        if (status.ok()) {
          self->CountSentLocked(transfer);
        } else {
          self->FailLocked(
              Annotate(status, absl::StrCat("sending the digest of ",
                                            Describe(transfer))),
              transfer.remote->rank);
        }
        self->ActivityOverLocked();
      });
}

void TransferOperation::CountSentLocked(Transfer& transfer) {
  const size_t all = transfer.messages.size() + (request_.digests ? 1 : 0);
  if (++transfer.over == all) CountOutgoingDoneLocked(transfer);
}

void TransferOperation::ReceiveDigestLocked(Transfer& transfer) {
  ++active_;
  deps_.transport.Receive(
      id().value(), static_cast<uint64_t>(transfer.remote->rank.value()),
      TagOf(id(), transfer.id(), kDigestMessage), &transfer.expected_message,
      sizeof(Digest),
      [self = shared_from_this(), &transfer](absl::Status status) {
        MutexLock lock(self->mutex_);
        if (status.ok()) {
          transfer.expected = transfer.expected_message;
          self->ProgressLocked();
          self->TryCompleteLocked(transfer);
        } else {
          self->FailLocked(
              Annotate(status, absl::StrCat("receiving the digest of ",
                                            Describe(transfer))),
              transfer.remote->rank);
        }
        self->ActivityOverLocked();
      });
}

void TransferOperation::PumpReceivesLocked(Remote& remote) {
  if (!started_) return;
  while (!failed_ && remote.receives.out < kWindow) {
    Transfer* transfer = remote.receives.Next();
    if (transfer == nullptr) return;
    const size_t index = transfer->next_message;
    const StreamMessage m = transfer->messages[index];
    std::byte* run = LandingRun(*transfer, m);
    StagingBuffer buffer;
    if (run == nullptr) {
      const auto taken =
          TakeStagingLocked(remote, &Remote::receives, m.bytes());
      if (!taken.has_value()) return;
      buffer = *taken;
    }
    ++transfer->next_message;
    ++remote.receives.out;
    ++active_;
    NetworkBusyLocked(1);
    auto done = [self = shared_from_this(), transfer, index,
                 buffer](absl::Status status) {
      self->OnReceived(*transfer, index, buffer, std::move(status));
    };
    if (remote.by_lane) {
      lane_->Receive(remote.rank,
                     transfer->first_message + static_cast<int64_t>(index),
                     buffer.data, m.bytes(), std::move(done));
      continue;
    }
    deps_.transport.Receive(
        id().value(), static_cast<uint64_t>(remote.rank.value()),
        TagOf(id(), transfer->id(), index), run != nullptr ? run : buffer.data,
        m.bytes(), std::move(done));
  }
}

void TransferOperation::OnReceived(Transfer& transfer, size_t message,
                                   StagingBuffer buffer, absl::Status status) {
  std::vector<Job> here;
  {
    MutexLock lock(mutex_);
    here_ = &here;
    OnReceivedLocked(transfer, message, buffer, std::move(status));
    here_ = nullptr;
  }
  for (Job& job : here) std::move(job)();
}

void TransferOperation::OnReceivedLocked(Transfer& transfer, size_t message,
                                         StagingBuffer buffer,
                                         absl::Status status) {
  NetworkBusyLocked(-1);
  Remote& remote = *transfer.remote;
  --remote.receives.out;
  if (!status.ok()) {
    ReleaseStagingLocked(remote, &Remote::receives, buffer);
    FailLocked(Annotate(status, absl::StrCat("receiving ", Describe(transfer))),
               BlamedBy(remote));
  } else {
    ProgressLocked();
    const StreamMessage m = transfer.messages[message];
    if (buffer.data != nullptr || request_.digests ||
        transfer.stream.has_copies()) {
      EnqueueLocked([this, &transfer, message,
                     buffer] { UnpackReceived(transfer, message, buffer); },
                    /*urgent=*/true);
    } else {
      LandedLocked(transfer, m.lo, m.hi);
    }
    PumpReceivesLocked(remote);
  }
  ActivityOverLocked();
}

void TransferOperation::UnpackReceived(Transfer& transfer, size_t message,
                                       StagingBuffer buffer) {
  const StreamMessage m = transfer.messages[message];
  if (buffer.data != nullptr && !failed_) {
    {
      MutexLock lock(mutex_);
      WorkBegunLocked();
    }
    transfer.stream.StartUnpack(
        m.lo, m.hi, buffer.data, request_.digests,
        [self = shared_from_this(), &transfer, message, buffer](
            absl::Status moved, const std::vector<SegmentDigest>& parts) {
          self->OnUnpacked(transfer, message, buffer, moved, parts);
          MutexLock lock(self->mutex_);
          self->WorkOverLocked();
        });
    return;
  }
  std::vector<SegmentDigest> parts;
  absl::Status moved;
  if (!failed_ && request_.digests) {
    moved = transfer.stream.DigestDestination(m.lo, m.hi, parts);
  }
  if (!failed_ && moved.ok() && transfer.stream.has_copies()) {
    moved = transfer.stream.CopyToOthers(m.lo, m.hi);
  }
  OnUnpacked(transfer, message, buffer, moved, parts);
}

void TransferOperation::OnUnpacked(Transfer& transfer, size_t message,
                                   StagingBuffer buffer,
                                   const absl::Status& moved,
                                   const std::vector<SegmentDigest>& parts) {
  const StreamMessage m = transfer.messages[message];
  MutexLock lock(mutex_);
  ReleaseStagingLocked(*transfer.remote, &Remote::receives, buffer);
  if (FailIfLocked(transfer, moved)) return;
  AddLandedDigestsLocked(transfer, parts);
  LandedLocked(transfer, m.lo, m.hi);
  if (buffer.data != nullptr) PumpAllReceivesLocked();
}

void TransferOperation::NetworkBusyLocked(int change) {
  const absl::Time now = deps_.clock.Now();
  if (network_messages_ > 0) {
    stats_.seconds[static_cast<size_t>(LinkClass::kBetweenNodes)] +=
        absl::ToDoubleSeconds(now - network_busy_since_);
  }
  network_busy_since_ = now;
  network_messages_ += change;
}

}  // namespace sluice::agent
