#include "agent/copy/strided_place.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace sluice::agent {
namespace {

absl::Status BadPiece(absl::string_view what, const Box& box) {
  return absl::InvalidArgumentError(
      absl::StrCat("box ", box.ToString(), ": ", what));
}

}  // namespace

absl::StatusOr<StridedPlace> PlaceInView(const TensorSpec& tensor,
                                         const Box& piece, const View& view,
                                         const LocalParam& param) {
  const auto rank = static_cast<size_t>(piece.rank());
  if (view.strides.size() != rank || view.box.rank() != piece.rank()) {
    return BadPiece(absl::StrCat("tensor ", tensor.name, ": expected ",
                                 view.box.rank(), " dimensions"),
                    piece);
  }
  if (!piece.empty() && !view.box.Contains(piece)) {
    return BadPiece(absl::StrCat("tensor ", tensor.name, ": outside the view ",
                                 view.box.ToString()),
                    piece);
  }
  const int64_t element = ByteSize(param.dtype);
  StridedPlace place;
  int64_t offset = 0;
  bool overflow = __builtin_mul_overflow(view.offset, element, &offset);
  for (size_t d = 0; d < rank; ++d) {
    int64_t stride = 0, skip = 0;
    const int dim = static_cast<int>(d);
    overflow |= __builtin_mul_overflow(view.strides[d], element, &stride);
    overflow |= __builtin_mul_overflow(
        stride, piece.dim(dim).lo - view.box.dim(dim).lo, &skip);
    overflow |= __builtin_add_overflow(offset, skip, &offset);
    place.strides_bytes.push_back(stride);
  }
  place.offset_bytes = offset;
  if (overflow) return BadPiece("offsets overflow", piece);
  // First within the parameter, then moved to where the parameter lies.
  const absl::Status inside =
      CheckPlace(place, piece, param.dtype, param.num_bytes());
  if (!inside.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", tensor.name,
                                                   ", parameter ", param.name,
                                                   ": ", inside.message()));
  }
  place.offset_bytes += param.offset_bytes;
  return place;
}

StridedPlace DensePlace(const Box& box, DType dtype, int64_t offset_bytes) {
  StridedPlace place{.offset_bytes = offset_bytes, .strides_bytes = {}};
  for (const int64_t stride : RowMajorStrides(box.shape())) {
    place.strides_bytes.push_back(stride * ByteSize(dtype));
  }
  return place;
}

absl::Status CheckPlace(const StridedPlace& place, const Box& box, DType dtype,
                        int64_t memory_bytes) {
  if (place.strides_bytes.size() != static_cast<size_t>(box.rank())) {
    return BadPiece(absl::StrCat("expected ", box.rank(), " strides, found ",
                                 place.strides_bytes.size()),
                    box);
  }
  if (box.empty()) return absl::OkStatus();
  int64_t first = place.offset_bytes;
  int64_t last = place.offset_bytes;  // of the elements' first bytes
  bool overflow = false;
  for (int d = 0; d < box.rank(); ++d) {
    int64_t reach = 0;
    overflow |=
        __builtin_mul_overflow(place.strides_bytes[static_cast<size_t>(d)],
                               box.dim(d).size() - 1, &reach);
    int64_t& end = reach < 0 ? first : last;
    overflow |= __builtin_add_overflow(end, reach, &end);
  }
  overflow |= __builtin_add_overflow(last, ByteSize(dtype), &last);
  if (overflow || first < 0 || last > memory_bytes) {
    return BadPiece(absl::StrCat("lies in bytes [", first, ", ", last,
                                 ") of a memory of ", memory_bytes),
                    box);
  }
  return absl::OkStatus();
}

}  // namespace sluice::agent
