// What moves inside a node: copies by mapped memory.

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/executor/operation.h"
#include "agent/piece_match.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// Of one job; several threads share a large transfer.
constexpr int64_t kCopyJobBytes = 16 << 20;
// Between two looks at whether the operation has failed: below a millisecond.
constexpr int64_t kCopyChunkBytes = 4 << 20;

}  // namespace

void TransferOperation::ScheduleCopiesLocked(Transfer& transfer,
                                             int64_t until) {
  while (transfer.scheduled < until) {
    const int64_t lo = transfer.scheduled;
    const int64_t hi = std::min(until, lo + kCopyJobBytes);
    transfer.scheduled = hi;
    EnqueueLocked([this, &transfer, lo, hi] { CopyRange(transfer, lo, hi); },
                  /*urgent=*/false);
  }
}

void TransferOperation::CopyRange(Transfer& transfer, int64_t lo, int64_t hi) {
  // A device copies a chunk while the one before is waited for and counted.
  std::optional<CopiedChunk> before;
  absl::Time since = deps_.clock.Now();
  while (lo < hi && !failed_) {
    CopiedChunk chunk{lo, std::min(hi, lo + kCopyChunkBytes)};
    auto copying = transfer.stream.BeginCopy(
        chunk.lo, chunk.hi, Compares(transfer) ? &chunk.digests : nullptr);
    if (before.has_value()) EndChunk(transfer, *std::move(before), since);
    before.reset();
    chunk.moved = copying.status();
    if (copying.ok()) chunk.copying = *std::move(copying);
    lo = chunk.hi;
    if (chunk.copying != nullptr) {
      before = std::move(chunk);
    } else {
      EndChunk(transfer, std::move(chunk), since);
    }
  }
  if (before.has_value()) EndChunk(transfer, *std::move(before), since);
}

void TransferOperation::EndChunk(Transfer& transfer, CopiedChunk chunk,
                                 absl::Time& since) {
  if (chunk.copying != nullptr) chunk.moved = chunk.copying->End();
  MutexLock lock(mutex_);
  if (FailIfLocked(transfer, chunk.moved)) return;
  const absl::Time now = deps_.clock.Now();
  stats_.seconds[static_cast<size_t>(transfer.link())] +=
      absl::ToDoubleSeconds(now - since);
  since = now;
  AddLandedDigestsLocked(transfer, chunk.digests);
  LandedLocked(transfer, chunk.lo, chunk.hi);
}

absl::Status TransferOperation::OpenPeer(LocalPeer& peer) {
  SLUICE_ASSIGN_OR_RETURN(
      const PeerSource source,
      deps_.peers.Open(id(), peer.rank,
                       deps_.clock.Now() + request_.progress_timeout,
                       interrupt_->descriptor()));
  SLUICE_ASSIGN_OR_RETURN(
      std::shared_ptr<Board> board,
      Board::Open(source.board, id(), request_.num_plan_transfers));
  std::vector<TransferStream> streams;
  for (const Transfer* transfer : peer.transfers) {
    BoundTransfer bound = transfer->stream.transfer();
    const auto found = source.transfers.find(bound.id);
    if (found == source.transfers.end()) {
      return absl::FailedPreconditionError(
          absl::StrCat(Describe(*transfer), ": not offered by its source"));
    }
    SLUICE_ASSIGN_OR_RETURN(std::vector<MatchedPiece> matches,
                            MatchPieces(bound.pieces, found->second));
    std::vector<BoundPiece> pieces;
    pieces.reserve(matches.size());
    for (MatchedPiece& match : matches) {
      BoundPiece& piece = pieces.emplace_back();
      const BoundPiece& ours = bound.pieces[match.piece];
      piece.tensor = ours.tensor;
      piece.mix = ours.mix;
      piece.dtype = ours.dtype;
      piece.shape = ours.shape;
      piece.box = std::move(match.box);
      piece.source = std::move(match.source);
      piece.destinations = std::move(match.destinations);
    }
    bound.pieces = std::move(pieces);
    SLUICE_ASSIGN_OR_RETURN(
        streams.emplace_back(),
        TransferStream::Create(std::move(bound), request_.self, deps_.mover));
  }
  MutexLock lock(mutex_);
  for (size_t i = 0; i < streams.size(); ++i) {
    peer.transfers[i]->stream = std::move(streams[i]);
  }
  peer.board = std::move(board);
  ProgressLocked();
  return absl::OkStatus();
}

void TransferOperation::PullFrom(LocalPeer& peer) {
  const absl::Status opened = OpenPeer(peer);
  if (!opened.ok()) {
    MutexLock lock(mutex_);
    FailLocked(Annotate(opened, absl::StrCat("opening the memory of rank ",
                                             peer.rank.value())),
               peer.rank);
    ActivityOverLocked();
    return;
  }
  const absl::Duration nap = request_.progress_timeout / 4;
  while (true) {
    const uint32_t epoch = peer.board->epoch();
    {
      MutexLock lock(mutex_);
      if (!LookAtBoardLocked(peer)) {
        peer.waiting = false;
        ActivityOverLocked();
        return;
      }
      peer.waiting = true;
    }
    // Ended by a change, by our own poke, or after a while: the futex alone
    // cannot miss one, a peer that died in the middle of one can.
    peer.board->Wait(epoch, nap);
    if (peer.board->epoch() != epoch) {
      MutexLock lock(mutex_);
      ProgressLocked();
    }
  }
}

bool TransferOperation::LookAtBoardLocked(LocalPeer& peer) {
  if (failed_) return false;
  bool left = false;
  for (Transfer* transfer : peer.transfers) {
    if (transfer->incoming_done) continue;
    if (Compares(*transfer) && !transfer->expected.has_value()) {
      transfer->expected = peer.board->digest(transfer->id());
    }
    const int64_t bytes = transfer->stream.bytes();
    ScheduleCopiesLocked(
        *transfer, std::min(bytes, peer.board->available(transfer->id())));
    TryCompleteLocked(*transfer);
    // What is on its way in jobs ends without this thread, its digest may not.
    left |= !transfer->incoming_done &&
            (transfer->scheduled < bytes ||
             (Compares(*transfer) && !transfer->expected.has_value()));
  }
  const std::optional<Rank> failed = peer.board->failed();
  if (left && failed.has_value()) {
    const Rank culprit =
        *failed == kNoRank || *failed == request_.self ? peer.rank : *failed;
    FailLocked(absl::UnavailableError(absl::StrCat(
                   "rank ", peer.rank.value(), " gave up",
                   culprit == peer.rank
                       ? ""
                       : absl::StrCat(" because of rank ", culprit.value()))),
               culprit);
  }
  return left && !failed_;
}

}  // namespace sluice::agent
