#include "agent/executor/operation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/failpoint.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Ten reports of progress a second.
constexpr absl::Duration kReportInterval = absl::Milliseconds(100);

}  // namespace

TransferOperation::TransferOperation(ExecutionRequest request, const Deps& deps)
    : request_(std::move(request)), deps_(deps) {}

absl::StatusOr<std::shared_ptr<TransferOperation>> TransferOperation::Create(
    ExecutionRequest request, const Deps& deps) {
  std::shared_ptr<TransferOperation> operation(
      new TransferOperation(std::move(request), deps));
  SLUICE_RETURN_IF_ERROR(Annotate(
      operation->Bind(), absl::StrCat("operation ", operation->id().value())));
  return operation;
}

absl::Status TransferOperation::Bind() {
  SLUICE_ASSIGN_OR_RETURN(board_,
                          Board::Create(id(), request_.num_plan_transfers));
  if (!request_.group.members.empty()) {
    if (deps_.lanes == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat("group ", request_.group.name,
                       " needs NCCL: this agent serves no GPU"));
    }
    // A lane knows better than CheckStalled whom it waits for.
    SLUICE_ASSIGN_OR_RETURN(
        lane_, deps_.lanes->Open(id(), request_.group, request_.self,
                                 request_.progress_timeout * 3 / 4));
  }
  std::vector<BoundTransfer> bound = std::move(request_.transfers);
  for (BoundTransfer& transfer : bound) {
    SLUICE_RETURN_IF_ERROR(BindTransfer(std::move(transfer)));
  }
  for (const auto& transfer : transfers_) {
    if (transfer->stream.transfer().reads_after.has_value() &&
        transfer->stream.transfer().source == request_.self) {
      SLUICE_RETURN_IF_ERROR(LinkRelay(*transfer));
    } else if (transfer->stream.transfer().source == request_.self) {
      transfer->available = transfer->stream.bytes();
    }
  }
  for (const auto& transfer : transfers_) {
    // Peers may look from now on: what waits for nothing is there.
    if (transfer->link() == LinkClass::kSameNode && !transfer->local) {
      board_->SetAvailable(transfer->id(), transfer->available);
    }
  }
  return SizeStaging();
}

absl::Status TransferOperation::BindTransfer(BoundTransfer bound) {
  const Rank self = request_.self;
  if (bound.id >= request_.num_plan_transfers) {
    return absl::InvalidArgumentError(absl::StrCat(
        "transfer ", bound.id, " of a plan of ", request_.num_plan_transfers));
  }
  auto owner = std::make_unique<Transfer>();
  Transfer& transfer = *owner;
  const bool lane =
      bound.link == LinkClass::kBetweenNodes &&
      ByLane(bound.source == self ? bound.destination : bound.source);
  SLUICE_ASSIGN_OR_RETURN(
      transfer.stream,
      TransferStream::Create(std::move(bound), self,
                             lane ? deps_.lanes->mover() : deps_.mover));
  const BoundTransfer& plan = transfer.stream.transfer();
  transfer.order = transfers_.size();
  const bool sends = plan.source == self;
  const bool receives = plan.destination == self;
  if ((!sends && !receives) ||
      (sends && receives) != (plan.link == LinkClass::kSameDevice)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(transfer), ": no transfer of rank ", self.value(),
                     " over this link"));
  }
  if (!by_id_.emplace(plan.id, &transfer).second) {
    return absl::InvalidArgumentError(
        absl::StrCat("transfer ", plan.id, " twice"));
  }
  transfers_.push_back(std::move(owner));
  if (plan.bytes == 0) return absl::OkStatus();
  MutexLock lock(mutex_);
  transfer.incoming_done = !receives;
  transfer.outgoing_done =
      !sends || receives ||
      (plan.link == LinkClass::kSameNode && !request_.digests);
  pending_ +=
      (transfer.incoming_done ? 0 : 1) + (transfer.outgoing_done ? 0 : 1);
  if (plan.link == LinkClass::kBetweenNodes) return BindRemote(transfer);
  if (plan.link == LinkClass::kSameNode && receives) {
    if (!interrupt_.has_value()) {
      SLUICE_ASSIGN_OR_RETURN(interrupt_, Interrupt::Create());
    }
    auto& peer = local_peers_[plan.source];
    if (peer == nullptr) peer = std::make_unique<LocalPeer>();
    peer->rank = plan.source;
    peer->transfers.push_back(&transfer);
    transfer.local = peer.get();
  }
  return absl::OkStatus();
}

absl::Status TransferOperation::LinkRelay(Transfer& transfer) {
  const uint32_t read = *transfer.stream.transfer().reads_after;
  const auto it = by_id_.find(read);
  if (it == by_id_.end() ||
      it->second->stream.transfer().destination != request_.self) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(transfer), " reads after transfer ", read,
                     ", which does not come here"));
  }
  Transfer& reads = *it->second;
  transfer.reads = &reads;
  reads.dependents.push_back(&transfer);
  const auto& theirs = reads.stream.segments();
  reads.segment_left.clear();
  for (const StreamSegment& s : theirs) reads.segment_left.push_back(s.bytes());
  reads.segment_digests.assign(theirs.size(), Digest{});
  absl::flat_hash_map<absl::string_view, size_t> by_tensor;
  for (size_t i = 0; i < theirs.size(); ++i) {
    by_tensor.emplace(reads.stream.piece_of(theirs[i]).tensor, i);
  }
  for (const StreamSegment& segment : transfer.stream.segments()) {
    const std::string& tensor = transfer.stream.piece_of(segment).tensor;
    const auto found = by_tensor.find(tensor);
    if (found == by_tensor.end() ||
        !theirs[found->second].box.Contains(segment.box)) {
      return absl::InvalidArgumentError(absl::StrCat(
          Describe(transfer), ": tensor \"", tensor, "\" box ",
          segment.box.ToString(), " is not delivered by transfer ", read));
    }
    transfer.read_segments.push_back(found->second);
  }
  return absl::OkStatus();
}

void TransferOperation::Start() {
  MutexLock lock(mutex_);
  if (started_ || failed_) return;
  started_ = true;
  last_progress_ = last_report_ = deps_.clock.Now();
  for (auto& [rank, remote] : remotes_) remote->last_progress = last_progress_;
  BeginLane();
  for (auto& [rank, peer] : local_peers_) {
    peer->last_progress = last_progress_;
    ++active_;
    deps_.waiters.Post([self = shared_from_this(), peer = peer.get()] {
      self->PullFrom(*peer);
    });
  }
  for (const auto& transfer : transfers_) {
    if (transfer->stream.bytes() == 0) continue;
    if (!transfer->outgoing_done && request_.digests) {
      StartSourceDigestsLocked(*transfer);
    }
    if (transfer->link() == LinkClass::kSameDevice) {
      ScheduleCopiesLocked(*transfer, transfer->available);
    } else if (transfer->remote != nullptr && !transfer->incoming_done &&
               request_.digests) {
      ReceiveDigestLocked(*transfer);
    }
  }
  PumpAllReceivesLocked();
  PumpAllSendsLocked();
  MaybeEndLocked();
}

void TransferOperation::Abort(absl::Status reason) {
  MutexLock lock(mutex_);
  FailLocked(std::move(reason), kNoRank);
}

void TransferOperation::FailLocked(absl::Status status, Rank culprit) {
  if (failed_ || ended_) return;
  failure_ = status.ok() ? absl::CancelledError("aborted") : std::move(status);
  culprit_ = culprit;
  failed_ = true;
  board_->Fail(culprit);
  if (interrupt_.has_value()) interrupt_->Raise();
  for (const auto& [rank, peer] : local_peers_) {
    if (peer->board != nullptr) peer->board->Poke();
  }
  const auto over = [self = shared_from_this()](const absl::Status&) {
    MutexLock lock(self->mutex_);
    self->ActivityOverLocked();
  };
  ++active_;
  deps_.transport.CancelGroup(id().value(), over);
  if (lane_ == nullptr) return;
  ++active_;
  lane_->Cancel(failure_, over);
}

bool TransferOperation::FailIfLocked(const Transfer& transfer,
                                     const absl::Status& moved) {
  if (!moved.ok()) FailLocked(Annotate(moved, Describe(transfer)), kNoRank);
  return failed_;
}

void TransferOperation::ActivityOverLocked() {
  --active_;
  MaybeEndLocked();
}

void TransferOperation::MaybeEndLocked() {
  const bool complete = started_ && pending_ == 0;
  if (ended_ || active_ != 0 || (!complete && !failed_)) return;
  ended_ = true;
  SLUICE_CHECK(send_staging_.used() == 0 && receive_staging_.used() == 0)
      << "staging leaked";
  deps_.waiters.Post([self = shared_from_this(), status = failure_,
                      stats = stats_, culprit = culprit_] {
    self->deps_.callbacks.on_done(self->id(), status, stats, culprit);
    self->deps_.ended(self->id());
  });
}

void TransferOperation::WorkBegunLocked() {
  ++active_;
  ++jobs_;
}

void TransferOperation::WorkOverLocked() {
  --jobs_;
  ProgressLocked();
  ActivityOverLocked();
}

void TransferOperation::EnqueueLocked(Job work, bool urgent) {
  WorkBegunLocked();
  Job job = [self = shared_from_this(), work = std::move(work)]() mutable {
    std::move(work)();
    MutexLock lock(self->mutex_);
    self->WorkOverLocked();
  };
  if (urgent && here_ != nullptr) {
    here_->push_back(std::move(job));
  } else if (urgent) {
    deps_.workers.PostUrgent(std::move(job));
  } else {
    deps_.workers.Post(std::move(job));
  }
}

void TransferOperation::ProgressLocked() { last_progress_ = deps_.clock.Now(); }

void TransferOperation::LandedLocked(Transfer& transfer, int64_t lo,
                                     int64_t hi) {
  Failpoint("agent.bytes", hi - lo);
  ProgressLocked();
  transfer.landed += hi - lo;
  bytes_done_ += hi - lo;
  stats_.bytes[static_cast<size_t>(transfer.link())] += hi - lo;
  ReportProgressLocked();
  if (!transfer.dependents.empty()) {
    const auto& segments = transfer.stream.segments();
    for (size_t i = transfer.stream.SegmentAt(lo);
         i < segments.size() && segments[i].lo < hi; ++i) {
      transfer.segment_left[i] -=
          std::min(hi, segments[i].hi) - std::max(lo, segments[i].lo);
    }
    for (Transfer* dependent : transfer.dependents) {
      UpdateAvailableLocked(*dependent);
    }
  }
  TryCompleteLocked(transfer);
}

void TransferOperation::UpdateAvailableLocked(Transfer& transfer) {
  const auto& segments = transfer.stream.segments();
  const size_t before = transfer.next_segment;
  while (
      transfer.next_segment < segments.size() &&
      transfer.reads
              ->segment_left[transfer.read_segments[transfer.next_segment]] ==
          0) {
    const size_t segment = transfer.next_segment++;
    transfer.available = segments[segment].hi;
    if (request_.digests && !transfer.outgoing_done) {
      DigestRelayedSegmentLocked(transfer, segment);
    }
  }
  if (transfer.next_segment == before) return;
  if (transfer.remote != nullptr) {
    PumpSendsLocked(*transfer.remote);
  } else if (transfer.link() == LinkClass::kSameDevice) {
    ScheduleCopiesLocked(transfer, transfer.available);
  } else {
    board_->SetAvailable(transfer.id(), transfer.available);
  }
}

void TransferOperation::ReportProgressLocked() {
  if (last_progress_ - last_report_ < kReportInterval) return;
  last_report_ = last_progress_;
  deps_.waiters.Post([self = shared_from_this(), bytes = bytes_done_] {
    self->deps_.callbacks.on_progress(self->id(), bytes);
  });
}

void TransferOperation::CountOutgoingDoneLocked(Transfer& transfer) {
  if (transfer.outgoing_done) return;
  transfer.outgoing_done = true;
  --pending_;
}

std::string TransferOperation::Describe(const Transfer& transfer) {
  const BoundTransfer& plan = transfer.stream.transfer();
  return absl::StrCat(
      "transfer ", plan.id,
      plan.pieces.empty()
          ? ""
          : absl::StrCat(" (tensor \"", plan.pieces.front().tensor, "\"",
                         plan.pieces.size() > 1 ? ", ..." : "", ")"),
      " from rank ", plan.source.value(), " to rank ",
      plan.destination.value());
}

std::pair<std::string, Rank> TransferOperation::WaitedForLocked() const {
  // The first unfinished transfer in plan order: later ones may wait for it.
  for (const auto& transfer : transfers_) {
    if (transfer->incoming_done && transfer->outgoing_done) continue;
    const BoundTransfer& plan = transfer->stream.transfer();
    if (!transfer->incoming_done && plan.source != request_.self) {
      return {absl::StrCat(
                  "receiving ", Describe(*transfer), ": ", transfer->landed,
                  " of ", plan.bytes, " bytes",
                  transfer->landed == plan.bytes ? ", its digest missing" : ""),
              plan.source};
    }
    if (!transfer->outgoing_done && transfer->remote != nullptr) {
      return {
          absl::StrCat("sending ", Describe(*transfer), ": ", transfer->over,
                       " of ", transfer->messages.size(), " messages taken"),
          plan.destination};
    }
  }
  return {"nothing", kNoRank};
}

void TransferOperation::CheckStalled(absl::Time now) {
  MutexLock lock(mutex_);
  // Its turn comes when those before it have moved, under their own watch.
  if (lane_ != nullptr && lane_->Waiting()) last_progress_ = now;
  if (!started_ || failed_ || ended_ || pending_ == 0 || jobs_ > 0 ||
      now - last_progress_ < request_.progress_timeout) {
    return;
  }
  auto [what, peer] = WaitedForLocked();
  FailLocked(
      absl::DeadlineExceededError(absl::StrCat(
          "no byte moved for ", absl::FormatDuration(request_.progress_timeout),
          " while ", what)),
      peer);
}

}  // namespace sluice::agent
