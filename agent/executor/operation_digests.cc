// The digests of an operation.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/executor/operation.h"

namespace sluice::agent {
namespace {

// Of one job.
constexpr int64_t kDigestJobBytes = 16 << 20;

DigestKey KeyOf(const TransferStream& stream, const StreamSegment& segment) {
  const BoundPiece& piece = stream.piece_of(segment);
  return {piece.tensor, piece.dtype, segment.box};
}

}  // namespace

bool TransferOperation::Compares(const Transfer& transfer) const {
  return request_.digests && transfer.link() != LinkClass::kSameDevice;
}

void TransferOperation::StartSourceDigestsLocked(Transfer& transfer) {
  const auto& segments = transfer.stream.segments();
  transfer.missing_digests = static_cast<int64_t>(segments.size());
  transfer.undigested.assign(segments.size(), 0);
  transfer.digested.assign(segments.size(), Digest{});
  transfer.fused.assign(segments.size(), false);
  if (transfer.reads != nullptr) return;  // as its segments land
  for (size_t i = 0; i < segments.size(); ++i) {
    DigestKey key = KeyOf(transfer.stream, segments[i]);
    if (!request_.content_key.empty()) {
      const auto known = deps_.digests.Find(request_.content_key, key);
      if (known.has_value()) {
        SetSourceDigestLocked(transfer, i, *known);
        continue;
      }
    }
    const auto [it, first] = shared_digests_.try_emplace(std::move(key));
    if (it->second.digest.has_value()) {
      SetSourceDigestLocked(transfer, i, *it->second.digest);
      continue;
    }
    it->second.takers.emplace_back(&transfer, i);
    if (!first) continue;
    if (transfer.remote != nullptr) {
      transfer.fused[i] = true;
      transfer.undigested[i] = segments[i].bytes();
    } else {
      DigestSegmentLocked(transfer, i);
    }
  }
}

void TransferOperation::DigestSegmentLocked(Transfer& transfer,
                                            size_t segment) {
  const StreamSegment& range = transfer.stream.segments()[segment];
  transfer.undigested[segment] = range.bytes();
  for (int64_t lo = range.lo; lo < range.hi; lo += kDigestJobBytes) {
    const int64_t hi = std::min(range.hi, lo + kDigestJobBytes);
    EnqueueLocked(
        [this, &transfer, lo, hi] {
          if (failed_) return;
          std::vector<SegmentDigest> parts;
          const absl::Status read = transfer.stream.DigestSource(lo, hi, parts);
          MutexLock lock(mutex_);
          if (FailIfLocked(transfer, read)) return;
          AddSourceDigestsLocked(transfer, lo, hi, parts);
        },
        /*urgent=*/false);
  }
}

void TransferOperation::DigestRelayedSegmentLocked(Transfer& transfer,
                                                   size_t segment) {
  const Transfer& reads = *transfer.reads;
  const size_t theirs = transfer.read_segments[segment];
  if (Compares(reads) && reads.stream.segments()[theirs].box ==
                             transfer.stream.segments()[segment].box) {
    SetSourceDigestLocked(transfer, segment, reads.segment_digests[theirs]);
  } else {
    DigestSegmentLocked(transfer, segment);
  }
}

void TransferOperation::AddSourceDigestsLocked(
    Transfer& transfer, int64_t lo, int64_t hi,
    const std::vector<SegmentDigest>& parts) {
  for (const SegmentDigest& part : parts) {
    const StreamSegment& segment = transfer.stream.segments()[part.segment];
    int64_t& left = transfer.undigested[part.segment];
    if (left == 0) continue;  // somebody else's
    const int64_t bytes = std::min(hi, segment.hi) - std::max(lo, segment.lo);
    stats_.digest_bytes += bytes;
    transfer.digested[part.segment] += part.digest;
    left -= bytes;
    if (left > 0) continue;
    const Digest digest = transfer.digested[part.segment];
    if (transfer.reads != nullptr) {
      SetSourceDigestLocked(transfer, part.segment, digest);
      continue;
    }
    const DigestKey key = KeyOf(transfer.stream, segment);
    if (!request_.content_key.empty()) {
      deps_.digests.Store(request_.content_key, key, digest);
    }
    SharedDigest& shared = shared_digests_[key];
    shared.digest = digest;
    const auto takers = std::exchange(shared.takers, {});
    for (const auto& [taker, index] : takers) {
      SetSourceDigestLocked(*taker, index, digest);
    }
  }
}

void TransferOperation::SetSourceDigestLocked(Transfer& transfer,
                                              size_t segment,
                                              const Digest& digest) {
  const StreamSegment& range = transfer.stream.segments()[segment];
  transfer.source_total += digest.Scaled(transfer.stream.piece_of(range).mix);
  if (--transfer.missing_digests > 0) return;
  if (transfer.remote != nullptr) {
    SendDigestLocked(transfer);
  } else {
    board_->PublishDigest(transfer.id(), transfer.source_total);
    CountOutgoingDoneLocked(transfer);
    MaybeEndLocked();
  }
}

void TransferOperation::AddLandedDigestsLocked(
    Transfer& transfer, const std::vector<SegmentDigest>& parts) {
  for (const SegmentDigest& part : parts) {
    const StreamSegment& segment = transfer.stream.segments()[part.segment];
    transfer.total += part.digest.Scaled(transfer.stream.piece_of(segment).mix);
    if (!transfer.dependents.empty()) {
      transfer.segment_digests[part.segment] += part.digest;
    }
  }
}

void TransferOperation::TryCompleteLocked(Transfer& transfer) {
  if (transfer.incoming_done || failed_ ||
      transfer.landed < transfer.stream.bytes()) {
    return;
  }
  if (Compares(transfer)) {
    if (!transfer.expected.has_value() && transfer.local != nullptr) {
      transfer.expected = transfer.local->board->digest(transfer.id());
    }
    if (!transfer.expected.has_value()) return;
    stats_.digests_compared += 1;
    stats_.digest_bytes += transfer.stream.bytes();
    if (*transfer.expected != transfer.total) {
      FailLocked(absl::DataLossError(absl::StrCat(
                     Describe(transfer),
                     ": the digest of what arrived is not the source's")),
                 transfer.stream.transfer().source);
      return;
    }
  }
  transfer.incoming_done = true;
  --pending_;
  // The thread that waits on the peer's board may have nothing left to do.
  if (transfer.local != nullptr && transfer.local->waiting) {
    transfer.local->board->Poke();
  }
  MaybeEndLocked();
}

}  // namespace sluice::agent
