#include "agent/cuda/piece_call.h"

#include <optional>

#include "absl/status/statusor.h"
#include "agent/cuda/element_types.h"
#include "agent/cuda/piece_ranges.h"
#include "common/status_macros.h"

namespace sluice::agent::cuda {
namespace {

bool Casts(const PieceRange& range, const BoundPlace& place) {
  return HeldType(*range.piece, place) != range.piece->dtype;
}

void Append(const std::vector<RowCopy>& from, std::vector<RowCopy>& to) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

Elements PieceCall::Image(absl::Span<const PieceRange> ranges,
                          const PieceRange& range) const {
  return Packed(range, scratch_ + static_cast<uint64_t>(range.packed -
                                                        ranges.front().packed));
}

absl::Status PieceCall::ReserveImages(absl::Span<const PieceRange> ranges) {
  for (const PieceRange& range : ranges) {
    if (!Casts(range, *range.source)) continue;
    SLUICE_ASSIGN_OR_RETURN(scratch_, workspace_->Scratch(PackedBytes(ranges)));
    break;
  }
  return absl::OkStatus();
}

template <typename CopyRun>
absl::Status PieceCall::ForScratch(absl::Span<const PieceRange> ranges,
                                   const std::vector<bool>& direct,
                                   const CopyRun& copy) {
  for (size_t at = 0; at < ranges.size();) {
    if (direct[at]) {
      ++at;
      continue;
    }
    size_t end = at + 1;
    while (end < ranges.size() && !direct[end]) ++end;
    SLUICE_RETURN_IF_ERROR(
        copy(ranges[at].packed, PackedBytes(ranges.subspan(at, end - at))));
    at = end;
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> PieceCall::AddPack(absl::Span<const PieceRange> ranges,
                                        const PieceRange& range,
                                        std::byte* packed) {
  const Elements from = InPlace(*range.piece, *range.source);
  if (!Casts(range, *range.source)) {
    const Elements message =
        Packed(range, reinterpret_cast<uintptr_t>(packed) +
                          static_cast<uint64_t>(range.packed));
    if (const auto rows = LongRows(range, from, message)) {
      Append(*rows, stages_[0].rows);
      SLUICE_RETURN_IF_ERROR(AddDigestOf(range, from, stages_[1]));
      return true;
    }
  }
  SLUICE_ASSIGN_OR_RETURN(scratch_, workspace_->Scratch(PackedBytes(ranges)));
  const Elements image = Image(ranges, range);
  if (Casts(range, *range.source)) {
    SLUICE_RETURN_IF_ERROR(AddCastTo(range, from, image));
  } else {
    SLUICE_RETURN_IF_ERROR(AddCopy(range, from, image, stages_[0].copies));
  }
  SLUICE_RETURN_IF_ERROR(AddDigestOf(range, image, stages_[1]));
  return false;
}

absl::Status PieceCall::Pack(absl::Span<const PieceRange> ranges,
                             std::byte* packed) {
  std::vector<bool> direct(ranges.size());
  for (size_t i = 0; i < ranges.size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(const bool is, AddPack(ranges, ranges[i], packed));
    direct[i] = is;
  }
  SLUICE_RETURN_IF_ERROR(Queue());
  const int64_t first = ranges.front().packed;
  return ForScratch(ranges, direct, [&](int64_t at, int64_t bytes) {
    return runtime_.Copy(packed + at, ScratchMemory(at - first), bytes,
                         workspace_->stream().get());
  });
}

absl::StatusOr<bool> PieceCall::AddDirectUnpack(const PieceRange& range,
                                                const std::byte* packed) {
  const BoundPlace* only = nullptr;
  for (const BoundPlace& to : range.destinations) {
    if (!OnDevice(to)) continue;
    // Several: the message crosses to the device once.
    if (only != nullptr) return false;
    only = &to;
  }
  if (only == nullptr || Casts(range, *only)) return false;
  const Elements message =
      Packed(range, reinterpret_cast<uintptr_t>(packed) +
                        static_cast<uint64_t>(range.packed));
  const Elements there = InPlace(*range.piece, *only);
  const auto rows = LongRows(range, message, there);
  if (!rows.has_value()) return false;
  Writes(*only);
  Append(*rows, stages_[0].rows);
  SLUICE_RETURN_IF_ERROR(AddDigestOf(range, there, stages_[1]));
  return true;
}

absl::Status PieceCall::Unpack(absl::Span<const PieceRange> ranges,
                               const std::byte* packed) {
  std::vector<bool> direct(ranges.size());
  for (size_t i = 0; i < ranges.size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(const bool is, AddDirectUnpack(ranges[i], packed));
    direct[i] = is;
    if (is) continue;
    SLUICE_ASSIGN_OR_RETURN(scratch_, workspace_->Scratch(PackedBytes(ranges)));
    const PieceRange& range = ranges[i];
    const Elements image = Image(ranges, range);
    SLUICE_RETURN_IF_ERROR(AddDigestOf(range, image, stages_[1]));
    for (const BoundPlace& to : range.destinations) {
      if (!OnDevice(to)) continue;
      SLUICE_RETURN_IF_ERROR(
          Add(range, image, range.piece->dtype, to, stages_[1]));
    }
  }
  const int64_t first = ranges.front().packed;
  SLUICE_RETURN_IF_ERROR(
      ForScratch(ranges, direct, [&](int64_t at, int64_t bytes) {
        return runtime_.Copy(ScratchMemory(at - first), packed + at, bytes,
                             workspace_->stream().get());
      }));
  return Queue();
}

absl::Status PieceCall::Copy(absl::Span<const PieceRange> ranges) {
  SLUICE_RETURN_IF_ERROR(ReserveImages(ranges));
  for (const PieceRange& range : ranges) {
    const BoundPiece& piece = *range.piece;
    Elements from = InPlace(piece, *range.source);
    if (Casts(range, *range.source)) {
      const Elements image = Image(ranges, range);
      SLUICE_RETURN_IF_ERROR(AddCastTo(range, from, image));
      from = image;
    }
    SLUICE_RETURN_IF_ERROR(AddDigestOf(range, from, stages_[1]));
    for (const BoundPlace& to : range.destinations) {
      SLUICE_RETURN_IF_ERROR(Add(range, from, piece.dtype, to, stages_[1]));
    }
  }
  return Queue();
}

absl::Status PieceCall::DigestOf(absl::Span<const PieceRange> ranges) {
  SLUICE_RETURN_IF_ERROR(ReserveImages(ranges));
  for (const PieceRange& range : ranges) {
    Elements from = InPlace(*range.piece, *range.source);
    if (Casts(range, *range.source)) {
      const Elements image = Image(ranges, range);
      SLUICE_RETURN_IF_ERROR(AddCastTo(range, from, image));
      from = image;
    }
    SLUICE_RETURN_IF_ERROR(AddDigestOf(range, from, stages_[1]));
  }
  return Queue();
}

absl::Status PieceCall::AddCastTo(const PieceRange& range, const Elements& from,
                                  const Elements& image) {
  SLUICE_ASSIGN_OR_RETURN(const Element held,
                          ElementOf(HeldType(*range.piece, *range.source)));
  SLUICE_ASSIGN_OR_RETURN(const Element wire, ElementOf(range.piece->dtype));
  return AddCast(range, from, image, stages_[0].CastsFor(held, wire));
}

absl::Status PieceCall::Add(const PieceRange& range, const Elements& from,
                            DType held, const BoundPlace& to, BoxStage& stage) {
  Writes(to);
  const Elements there = InPlace(*range.piece, to);
  const DType wanted = HeldType(*range.piece, to);
  if (wanted == held) {
    if (const auto rows = LongRows(range, from, there)) {
      Append(*rows, stage.rows);
      return absl::OkStatus();
    }
    return AddCopy(range, from, there, stage.copies);
  }
  SLUICE_ASSIGN_OR_RETURN(const Element source, ElementOf(held));
  SLUICE_ASSIGN_OR_RETURN(const Element target, ElementOf(wanted));
  return AddCast(range, from, there, stage.CastsFor(source, target));
}

absl::Status PieceCall::AddDigestOf(const PieceRange& range,
                                    const Elements& from, BoxStage& stage) {
  if (range.digest == nullptr) return absl::OkStatus();
  // Neighbours mostly share one.
  if (digests_.empty() || digests_.back() != range.digest) {
    digests_.push_back(range.digest);
  }
  return AddDigest(range, from, static_cast<uint32_t>(digests_.size() - 1),
                   stage.digests);
}

void PieceCall::Writes(const BoundPlace& place) {
  auto* memory = dynamic_cast<CudaMemory*>(place.memory.get());
  if (memory != nullptr) written_.insert(memory);
}

absl::Status PieceCall::Queue() {
  SLUICE_RETURN_IF_ERROR(workspace_->Queue(stages_, digests_.size()));
  for (CudaMemory* memory : written_) {
    SLUICE_RETURN_IF_ERROR(memory->AfterWriting(workspace_->stream()));
  }
  return absl::OkStatus();
}

absl::Status PieceCall::Finish() {
  SLUICE_ASSIGN_OR_RETURN(const std::vector<Digest> digests,
                          workspace_->Finish());
  for (size_t i = 0; i < digests.size(); ++i) *digests_[i] += digests[i];
  return absl::OkStatus();
}

}  // namespace sluice::agent::cuda
