#include "agent/cuda/piece_boxes.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/box.h"
#include "common/dtype.h"
#include "common/status_macros.h"

namespace sluice::agent::cuda {
namespace {

// Of what the runtime calls a pitched copy.
constexpr int64_t kMaxPitch = int64_t{1} << 30;

uint64_t AddressOf(const BoundPlace& place) {
  return reinterpret_cast<uintptr_t>(place.memory->data()) +
         static_cast<uint64_t>(place.offset_bytes);
}

std::vector<int64_t> ExtentsOf(const BoundPiece& piece) {
  std::vector<int64_t> extents;
  for (int d = 0; d < piece.box.rank(); ++d) {
    extents.push_back(piece.box.dim(d).size());
  }
  return extents;
}

std::vector<int64_t> RowMajor(const std::vector<int64_t>& extents,
                              int64_t element) {
  std::vector<int64_t> strides(extents.size());
  for (size_t d = extents.size(); d-- > 0;) {
    strides[d] = element;
    element *= extents[d];
  }
  return strides;
}

// The piece in its tensor: `first` is its offset there.
Elements InTensor(const BoundPiece& piece) {
  Elements out;
  out.bytes = ByteSize(piece.dtype);
  out.strides = RowMajor({piece.shape.begin(), piece.shape.end()}, out.bytes);
  for (int d = 0; d < piece.box.rank(); ++d) {
    out.first += static_cast<uint64_t>(piece.box.dim(d).lo *
                                       out.strides[static_cast<size_t>(d)]);
  }
  return out;
}

bool IsAligned(const Elements& elements) {
  bool aligned = elements.first % static_cast<uint64_t>(elements.bytes) == 0;
  for (const int64_t stride : elements.strides) {
    aligned &= stride % elements.bytes == 0;
  }
  return aligned;
}

// Single bytes: one dimension more.
Elements AsBytes(Elements elements) {
  elements.strides.push_back(1);
  elements.bytes = 1;
  return elements;
}

using VisitBox = std::function<absl::Status(
    const std::vector<int64_t>& origin, const std::vector<int64_t>& counts)>;

// Cuts positions [lo, hi) of a row-major sequence into boxes.
class RangeCutter {
 public:
  RangeCutter(std::vector<int64_t> extents, const VisitBox& visit)
      : extents_(std::move(extents)),
        inner_(RowMajor(extents_, 1)),
        visit_(visit),
        origin_(extents_.size(), 0),
        counts_(extents_.size(), 1) {}

  absl::Status Cut(int64_t lo, int64_t hi) { return CutFrom(0, lo, hi); }

 private:
  // Positions within dimension `d` and those inside it.
  absl::Status CutFrom(size_t d, int64_t lo, int64_t hi) {
    if (lo >= hi) return absl::OkStatus();
    if (d == extents_.size()) return visit_(origin_, counts_);
    const int64_t inner = inner_[d];
    int64_t first = lo / inner;
    if (lo % inner != 0) {
      const int64_t end = std::min(hi, (first + 1) * inner);
      SLUICE_RETURN_IF_ERROR(
          CutOne(d, first, lo - first * inner, end - first * inner));
      ++first;
    }
    const int64_t last = hi / inner;
    if (first < last) {
      for (size_t e = d; e < extents_.size(); ++e) {
        origin_[e] = 0;
        counts_[e] = extents_[e];
      }
      origin_[d] = first;
      counts_[d] = last - first;
      SLUICE_RETURN_IF_ERROR(visit_(origin_, counts_));
    }
    if (last < first || hi % inner == 0) return absl::OkStatus();
    return CutOne(d, last, 0, hi - last * inner);
  }
  absl::Status CutOne(size_t d, int64_t at, int64_t lo, int64_t hi) {
    origin_[d] = at;
    counts_[d] = 1;
    return CutFrom(d + 1, lo, hi);
  }

  const std::vector<int64_t> extents_;
  const std::vector<int64_t> inner_;  // positions of one index of a dimension
  const VisitBox& visit_;
  std::vector<int64_t> origin_, counts_;
};

uint64_t At(const Elements& elements, const std::vector<int64_t>& origin) {
  uint64_t address = elements.first;
  for (size_t d = 0; d < origin.size(); ++d) {
    address += static_cast<uint64_t>(origin[d] * elements.strides[d]);
  }
  return address;
}

// Adds [lo, hi) elements; `to` is where they go, or, of digests, where they lie
// in the tensor.
absl::Status AddBoxes(std::vector<int64_t> extents, int64_t lo, int64_t hi,
                      const Elements& from, const Elements& to,
                      const uint32_t* slot, BoxList& list) {
  return RangeCutter(std::move(extents),
                     [&](const std::vector<int64_t>& origin,
                         const std::vector<int64_t>& counts) {
                       BoxPlace box;
                       box.extents = counts;
                       box.src = At(from, origin);
                       box.src_strides = from.strides;
                       if (slot != nullptr) {
                         box.logical = At(to, origin);
                         box.logical_strides = to.strides;
                         box.slot = *slot;
                       } else {
                         box.dst = At(to, origin);
                         box.dst_strides = to.strides;
                       }
                       return list.Add(box, from.bytes, to.bytes);
                     })
      .Cut(lo, hi);
}

// Joins the loops of a box, whose elements are single bytes; nullopt where they
// are not rows at one pitch.
std::optional<RowCopy> AsRows(const std::vector<int64_t>& counts,
                              const Elements& from, const Elements& to,
                              const std::vector<int64_t>& origin) {
  RowCopy copy{At(to, origin), At(from, origin), 0, 0, /*width=*/1};
  std::vector<size_t> order;
  for (size_t d = 0; d < counts.size(); ++d) {
    if (counts[d] > 1) order.push_back(d);
  }
  // Innermost first.
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::abs(from.strides[a]) < std::abs(from.strides[b]);
  });
  for (const size_t d : order) {
    const int64_t src = from.strides[d];
    const int64_t dst = to.strides[d];
    if (copy.rows == 1 && src == copy.width && dst == copy.width) {
      copy.width *= counts[d];
    } else if (copy.rows == 1) {
      copy.src_pitch = src;
      copy.dst_pitch = dst;
      copy.rows = counts[d];
    } else if (src == copy.src_pitch * copy.rows &&
               dst == copy.dst_pitch * copy.rows) {
      copy.rows *= counts[d];
    } else {
      return std::nullopt;
    }
  }
  if (copy.rows == 1) return copy;
  const auto [least, most] = std::minmax(copy.src_pitch, copy.dst_pitch);
  const bool fits =
      copy.width >= kEngineRowBytes && least >= copy.width && most <= kMaxPitch;
  return fits ? std::optional(copy) : std::nullopt;
}

// Whole elements where they are aligned, else bytes.
absl::Status AddSame(const PieceRange& range, const Elements& from,
                     const Elements& to, const uint32_t* slot, BoxList& list) {
  std::vector<int64_t> extents = ExtentsOf(*range.piece);
  const int64_t bytes = from.bytes;
  const bool whole = range.lo % bytes == 0 && range.hi % bytes == 0 &&
                     IsAligned(from) && IsAligned(to);
  if (whole) {
    return AddBoxes(std::move(extents), range.lo / bytes, range.hi / bytes,
                    from, to, slot, list);
  }
  extents.push_back(bytes);
  return AddBoxes(std::move(extents), range.lo, range.hi, AsBytes(from),
                  AsBytes(to), slot, list);
}

}  // namespace

Elements InPlace(const BoundPiece& piece, const BoundPlace& place) {
  return {AddressOf(place), place.strides_bytes,
          ByteSize(HeldType(piece, place))};
}

Elements Packed(const PieceRange& range, uint64_t address) {
  const int64_t bytes = ByteSize(range.piece->dtype);
  return {address - static_cast<uint64_t>(range.lo),
          RowMajor(ExtentsOf(*range.piece), bytes), bytes};
}

absl::Status AddCopy(const PieceRange& range, const Elements& from,
                     const Elements& to, BoxList& list) {
  return AddSame(range, from, to, nullptr, list);
}

absl::Status AddDigest(const PieceRange& range, const Elements& from,
                       uint32_t slot, BoxList& list) {
  return AddSame(range, from, InTensor(*range.piece), &slot, list);
}

absl::Status AddCast(const PieceRange& range, const Elements& from,
                     const Elements& to, BoxList& list) {
  const int64_t bytes = ByteSize(range.piece->dtype);
  if (range.lo % bytes != 0 || range.hi % bytes != 0 || !IsAligned(from) ||
      !IsAligned(to)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", range.piece->tensor,
        "\": elements that a GPU casts must lie at multiples of their size"));
  }
  return AddBoxes(ExtentsOf(*range.piece), range.lo / bytes, range.hi / bytes,
                  from, to, nullptr, list);
}

std::optional<std::vector<RowCopy>> LongRows(const PieceRange& range,
                                             const Elements& from,
                                             const Elements& to) {
  if (from.bytes != to.bytes) return std::nullopt;
  std::vector<int64_t> extents = ExtentsOf(*range.piece);
  extents.push_back(from.bytes);
  const Elements source = AsBytes(from);
  const Elements target = AsBytes(to);
  std::vector<RowCopy> copies;
  const absl::Status cut =
      RangeCutter(std::move(extents), [&](const std::vector<int64_t>& origin,
                                          const std::vector<int64_t>& counts) {
        const auto rows = AsRows(counts, source, target, origin);
        if (!rows.has_value()) return absl::CancelledError();
        copies.push_back(*rows);
        return absl::OkStatus();
      }).Cut(range.lo, range.hi);
  const auto calls = static_cast<int64_t>(copies.size());
  if (!cut.ok() || range.hi - range.lo < calls * kEngineCallBytes) {
    return std::nullopt;
  }
  return copies;
}

}  // namespace sluice::agent::cuda
