#include "agent/copy/box_copy.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/copy/copy_kernels.h"

namespace sluice::agent {
namespace {

using copy_internal::BestIsa;
using copy_internal::Rows;

absl::Status BadPiece(absl::string_view what, const Box& box) {
  return absl::InvalidArgumentError(
      absl::StrCat("box ", box.ToString(), ": ", what));
}

// Runs shorter than this are copied and digested in two passes over a cached
// stretch, where the digest then finds longer runs on one of the two sides.
constexpr int64_t kShortRunBytes = 32;
constexpr int64_t kTwoPassBytes = 32 << 10;

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
  if (param.dtype != tensor.dtype) {
    return BadPiece(
        absl::StrCat("tensor ", tensor.name, ": parameter ", param.name,
                     " has dtype ", DTypeName(param.dtype), ", expected ",
                     DTypeName(tensor.dtype)),
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

BoxCopy::Loops BoxCopy::Collapse(const std::vector<Dim>& dims,
                                 int64_t element_bytes, Joint joint) {
  // Whether `outer` continues what `n` positions of `inner`'s strides cover.
  const auto continues = [&joint](const Dim& outer, const Dim& inner,
                                  int64_t n) {
    return (!joint.logical || outer.logical == inner.logical * n) &&
           (!joint.src || outer.src == inner.src * n) &&
           (!joint.dst || outer.dst == inner.dst * n);
  };
  const Dim byte{.count = 1, .logical = 1, .src = 1, .dst = 1};
  Loops loops{.dims = {}, .run_bytes = element_bytes};
  std::vector<Dim> reversed;
  for (auto dim = dims.rbegin(); dim != dims.rend(); ++dim) {
    if (dim->count == 1) continue;
    if (reversed.empty() && continues(*dim, byte, loops.run_bytes)) {
      loops.run_bytes *= dim->count;
    } else if (!reversed.empty() &&
               continues(*dim, reversed.back(), reversed.back().count)) {
      reversed.back().count *= dim->count;
    } else {
      reversed.push_back(*dim);
    }
  }
  if (reversed.empty()) reversed.push_back(Dim{});
  loops.dims.assign(reversed.rbegin(), reversed.rend());
  return loops;
}

absl::StatusOr<BoxCopy> BoxCopy::Create(DType dtype,
                                        absl::Span<const int64_t> shape,
                                        const Box& box,
                                        const StridedPlace& source,
                                        const StridedPlace& destination) {
  const int64_t element = ByteSize(dtype);
  const auto rank = static_cast<size_t>(box.rank());
  if (element == 0) return BadPiece("no dtype", box);
  if (shape.size() != rank || source.strides_bytes.size() != rank ||
      destination.strides_bytes.size() != rank) {
    return BadPiece("numbers of dimensions disagree", box);
  }
  if (!box.empty() && !box.FitsIn(shape)) {
    return BadPiece("outside the tensor", box);
  }
  const std::optional<int64_t> elements = NumElements(shape);
  int64_t bytes = 0;
  if (!elements || __builtin_mul_overflow(*elements, element, &bytes)) {
    return BadPiece("the tensor's size overflows", box);
  }
  BoxCopy copy;
  copy.num_bytes_ = box.empty() ? 0 : box.num_elements() * element;
  copy.src_offset_ = source.offset_bytes;
  copy.dst_offset_ = destination.offset_bytes;
  const std::vector<int64_t> logical = RowMajorStrides(shape);
  std::vector<Dim> dims;
  for (size_t d = 0; d < rank; ++d) {
    const Interval& extent = box.dim(static_cast<int>(d));
    copy.logical_offset_ += extent.lo * logical[d] * element;
    dims.push_back({extent.size(), logical[d] * element,
                    source.strides_bytes[d], destination.strides_bytes[d]});
  }
  if (copy.num_bytes_ == 0) return copy;
  copy.plain_ = Collapse(dims, element, {.src = true, .dst = true});
  copy.hashed_ =
      Collapse(dims, element, {.logical = true, .src = true, .dst = true});
  copy.hashed_source_ = Collapse(dims, element, {.logical = true, .src = true});
  copy.hashed_destination_ =
      Collapse(dims, element, {.logical = true, .dst = true});
  copy.source_ = Collapse(dims, element, {.src = true});
  copy.destination_ = Collapse(dims, element, {.dst = true});
  return copy;
}

absl::StatusOr<BoxCopy> BoxCopy::ForSource(DType dtype,
                                           absl::Span<const int64_t> shape,
                                           const Box& box,
                                           const StridedPlace& source) {
  return Create(dtype, shape, box, source, source);
}

// Cuts a range of the sequence into batches of rows.
class BoxCopyWalker {
 public:
  using Loops = BoxCopy::Loops;

  // `count` rows of `bytes`; offsets are of the first, from the box's first
  // element (`sequence`: from the sequence's first byte).
  struct Batch {
    int64_t sequence = 0;
    BoxCopy::Dim offset;  // its count is unused
    BoxCopy::Dim stride;
    int64_t count = 0;
    int64_t bytes = 0;
  };

  // Calls visit(Batch) for the bytes [lo, hi), in order.
  template <typename Visit>
  static void Walk(const Loops& loops, int64_t lo, int64_t hi, Visit visit) {
    BoxCopyWalker walker(loops, lo);
    int64_t at = lo;
    const int64_t run = loops.run_bytes;
    while (at < hi) {
      Batch batch{.sequence = at,
                  .offset = walker.offset_,
                  .stride = loops.dims.back(),
                  .count = 1,
                  .bytes = 0};
      const int64_t inside = at % run;
      if (inside != 0 || hi - at < run) {  // a part of one run
        batch.bytes = std::min(run - inside, hi - at);
        batch.offset.logical += inside;
        batch.offset.src += inside;
        batch.offset.dst += inside;
        if (inside + batch.bytes == run) walker.Skip(1);
      } else {
        batch.count = std::min(walker.LeftInLine(), (hi - at) / run);
        batch.bytes = run;
        walker.Skip(batch.count);
      }
      visit(static_cast<const Batch&>(batch));
      at += batch.count * batch.bytes;
    }
  }

  // Offset of byte `lo` in one space, where [lo, hi) lies in one run.
  static std::optional<int64_t> RunOffset(const Loops& loops, int64_t lo,
                                          int64_t hi,
                                          int64_t BoxCopy::Dim::*space) {
    if (loops.run_bytes == 0) return 0;
    if (lo / loops.run_bytes != (std::max(hi, lo + 1) - 1) / loops.run_bytes) {
      return std::nullopt;
    }
    return BoxCopyWalker(loops, lo).offset_.*space + lo % loops.run_bytes;
  }

 private:
  BoxCopyWalker(const Loops& loops, int64_t lo) : loops_(loops) {
    index_.resize(loops.dims.size());
    int64_t run = lo / loops.run_bytes;
    for (size_t d = loops.dims.size(); d-- > 0;) {
      const BoxCopy::Dim& dim = loops.dims[d];
      index_[d] = run % dim.count;
      run /= dim.count;
      Move(dim, index_[d]);
    }
  }

  void Move(const BoxCopy::Dim& dim, int64_t n) {
    offset_.logical += dim.logical * n;
    offset_.src += dim.src * n;
    offset_.dst += dim.dst * n;
  }

  int64_t LeftInLine() const {
    return loops_.dims.back().count - index_.back();
  }

  // Goes `n` <= LeftInLine() runs on.
  void Skip(int64_t n) {
    size_t d = loops_.dims.size() - 1;
    index_[d] += n;
    Move(loops_.dims[d], n);
    while (index_[d] == loops_.dims[d].count && d > 0) {
      Move(loops_.dims[d], -index_[d]);
      index_[d] = 0;
      --d;
      ++index_[d];
      Move(loops_.dims[d], 1);
    }
  }

  const Loops& loops_;
  std::vector<int64_t> index_;
  BoxCopy::Dim offset_;  // of run `index_`, from the box's first element
};

// Lets the free functions below read a BoxCopy.
struct BoxCopyAccess {
  using Batch = BoxCopyWalker::Batch;

  // One side of a movement: a strided place, or a dense stretch of bytes that
  // starts at byte `lo` of the sequence.
  struct Side {
    std::byte* base = nullptr;
    int64_t BoxCopy::Dim::*space = nullptr;  // null: dense
    int64_t lo = 0;

    std::byte* At(const Batch& b) const {
      return base + (space ? b.offset.*space : b.sequence - lo);
    }
    int64_t Stride(const Batch& b) const {
      return space ? b.stride.*space : b.bytes;
    }
  };

  static Side Source(const BoxCopy& copy, const void* memory) {
    // Never written: the constness is dropped to share the type.
    auto* base = static_cast<std::byte*>(const_cast<void*>(memory));
    return {base + copy.src_offset_, &BoxCopy::Dim::src, 0};
  }
  static Side Destination(const BoxCopy& copy, const void* memory) {
    auto* base = static_cast<std::byte*>(const_cast<void*>(memory));
    return {base + copy.dst_offset_, &BoxCopy::Dim::dst, 0};
  }
  static Side Dense(const void* bytes, int64_t lo) {
    return {static_cast<std::byte*>(const_cast<void*>(bytes)), nullptr, lo};
  }

  static Rows RowsOf(const BoxCopy& copy, const Batch& b, const Side& from,
                     const Side& to) {
    return {.src = from.At(b),
            .dst = to.base ? to.At(b) : nullptr,
            .count = b.count,
            .bytes = b.bytes,
            .src_stride = from.Stride(b),
            .dst_stride = to.base ? to.Stride(b) : 0,
            .logical = copy.logical_offset_ + b.offset.logical,
            .logical_stride = b.stride.logical};
  }

  static void Copy(const BoxCopy& copy, const BoxCopy::Loops& loops, int64_t lo,
                   int64_t hi, const Side& from, const Side& to,
                   Stores stores) {
    BoxCopyWalker::Walk(loops, lo, hi, [&](const Batch& b) {
      copy_internal::CopyRows(BestIsa(), RowsOf(copy, b, from, to),
                              stores == Stores::kStreaming);
    });
  }

  static void CopyAndDigest(const BoxCopy& copy, const BoxCopy::Loops& loops,
                            int64_t lo, int64_t hi, const Side& from,
                            const Side& to, Stores stores, Digest& digest) {
    BoxCopyWalker::Walk(loops, lo, hi, [&](const Batch& b) {
      copy_internal::CopyAndDigestRows(BestIsa(), RowsOf(copy, b, from, to),
                                       stores == Stores::kStreaming, digest);
    });
  }

  static void DigestSide(const BoxCopy& copy, const BoxCopy::Loops& loops,
                         int64_t lo, int64_t hi, const Side& side,
                         Digest& digest) {
    BoxCopyWalker::Walk(loops, lo, hi, [&](const Batch& b) {
      copy_internal::DigestRows(BestIsa(), RowsOf(copy, b, side, {}), digest);
    });
  }

  // How one movement is done: which loops it may use for which purpose.
  struct Way {
    const BoxCopy::Loops& plain;
    const BoxCopy::Loops& hashed;
    const BoxCopy::Loops& hashed_from;
    const BoxCopy::Loops& hashed_to;
  };

  static void Move(const BoxCopy& copy, const Way& way, int64_t lo, int64_t hi,
                   const Side& from, const Side& to, Stores stores,
                   Digest* digest) {
    if (lo >= hi) return;
    if (digest == nullptr) {
      Copy(copy, way.plain, lo, hi, from, to, stores);
      return;
    }
    const int64_t longest =
        std::max(way.hashed_from.run_bytes, way.hashed_to.run_bytes);
    if (way.hashed.run_bytes >= kShortRunBytes ||
        way.hashed.run_bytes == longest) {
      CopyAndDigest(copy, way.hashed, lo, hi, from, to, stores, *digest);
      return;
    }
    const bool from_is_longer = way.hashed_from.run_bytes == longest;
    const BoxCopy::Loops& loops =
        from_is_longer ? way.hashed_from : way.hashed_to;
    for (int64_t at = lo; at < hi; at += kTwoPassBytes) {
      const int64_t end = std::min(hi, at + kTwoPassBytes);
      Copy(copy, way.plain, at, end, from, to, Stores::kCached);
      DigestSide(copy, loops, at, end, from_is_longer ? from : to, *digest);
    }
  }

  static Way PlaceToPlace(const BoxCopy& c) {
    return {c.plain_, c.hashed_, c.hashed_source_, c.hashed_destination_};
  }
  // A dense side follows any joint loops; alone with the logical offsets it is
  // no longer than the strided side can make it.
  static Way Packing(const BoxCopy& c) {
    return {c.source_, c.hashed_source_, c.hashed_source_, c.hashed_source_};
  }
  static Way Unpacking(const BoxCopy& c) {
    return {c.destination_, c.hashed_destination_, c.hashed_destination_,
            c.hashed_destination_};
  }
  static const BoxCopy::Loops& HashedSource(const BoxCopy& c) {
    return c.hashed_source_;
  }
  static const BoxCopy::Loops& HashedDestination(const BoxCopy& c) {
    return c.hashed_destination_;
  }
};

std::optional<int64_t> BoxCopy::SourceRun(int64_t lo, int64_t hi) const {
  const std::optional<int64_t> offset =
      BoxCopyWalker::RunOffset(source_, lo, hi, &Dim::src);
  if (!offset) return std::nullopt;
  return src_offset_ + *offset;
}

std::optional<int64_t> BoxCopy::DestinationRun(int64_t lo, int64_t hi) const {
  const std::optional<int64_t> offset =
      BoxCopyWalker::RunOffset(destination_, lo, hi, &Dim::dst);
  if (!offset) return std::nullopt;
  return dst_offset_ + *offset;
}

void CopyBox(const BoxCopy& copy, const void* source, void* destination,
             Stores stores, Digest* digest) {
  CopyBoxRange(copy, 0, copy.num_bytes(), source, destination, stores, digest);
}

void CopyBoxRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                  const void* source, void* destination, Stores stores,
                  Digest* digest) {
  using A = BoxCopyAccess;
  A::Move(copy, A::PlaceToPlace(copy), lo, hi, A::Source(copy, source),
          A::Destination(copy, destination), stores, digest);
}

void PackBoxRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                  const void* source, void* packed, Digest* digest) {
  using A = BoxCopyAccess;
  A::Move(copy, A::Packing(copy), lo, hi, A::Source(copy, source),
          A::Dense(packed, lo), Stores::kCached, digest);
}

void UnpackBoxRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                    const void* packed, void* destination, Digest* digest) {
  using A = BoxCopyAccess;
  A::Move(copy, A::Unpacking(copy), lo, hi, A::Dense(packed, lo),
          A::Destination(copy, destination), Stores::kStreaming, digest);
}

void DigestSourceRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                       const void* source, Digest& digest) {
  if (lo >= hi) return;
  using A = BoxCopyAccess;
  A::DigestSide(copy, A::HashedSource(copy), lo, hi, A::Source(copy, source),
                digest);
}

void DigestDestinationRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                            const void* destination, Digest& digest) {
  if (lo >= hi) return;
  using A = BoxCopyAccess;
  A::DigestSide(copy, A::HashedDestination(copy), lo, hi,
                A::Destination(copy, destination), digest);
}

}  // namespace sluice::agent
