#include "agent/copy/box_copy.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "agent/copy/cast_kernels.h"
#include "agent/copy/copy_kernels.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

using copy_internal::BestIsa;
using copy_internal::CastSide;
using copy_internal::Collapse;
using copy_internal::LoopDim;
using copy_internal::Loops;
using copy_internal::LoopWalker;
using copy_internal::Rows;

absl::Status BadPiece(absl::string_view what, const Box& box) {
  return absl::InvalidArgumentError(
      absl::StrCat("box ", box.ToString(), ": ", what));
}

// Runs shorter than this are copied and digested in two passes over a cached
// stretch, where the digest then finds longer runs on one of the two sides.
constexpr int64_t kShortRunBytes = 32;
constexpr int64_t kTwoPassBytes = 32 << 10;

// What a copy's sides have in common, to describe one that casts.
struct Geometry {
  const std::vector<LoopDim>& dims;
  int64_t logical_offset = 0;
  DType wire = DType::kUnspecified;
};

// Returns null where the types agree.
absl::StatusOr<std::shared_ptr<const CastSide>> MakeCastSide(
    const Geometry& geometry, DType dtype, const StridedPlace& place,
    int64_t LoopDim::*space) {
  if (dtype == geometry.wire) return nullptr;
  auto side = std::make_shared<CastSide>();
  side->to_wire = copy_internal::FindCast(BestIsa(), dtype, geometry.wire);
  side->from_wire = copy_internal::FindCast(BestIsa(), geometry.wire, dtype);
  if (side->to_wire == nullptr || side->from_wire == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("no cast between ", DTypeName(dtype), " in memory and ",
                     DTypeName(geometry.wire), " on the wire"));
  }
  side->element_bytes = ByteSize(dtype);
  side->wire_bytes = ByteSize(geometry.wire);
  side->offset = place.offset_bytes;
  side->space = space;
  side->memory =
      Collapse(geometry.dims, side->element_bytes,
               {.src = space == &LoopDim::src, .dst = space == &LoopDim::dst});
  side->logical = Collapse(geometry.dims, side->wire_bytes, {.logical = true});
  side->logical_offset = geometry.logical_offset;
  return side;
}

// Errors: as Create's, of the geometry alone.
absl::Status CheckGeometry(const CopyTypes& types,
                           absl::Span<const int64_t> shape, const Box& box,
                           const StridedPlace& source,
                           const StridedPlace& destination) {
  const auto rank = static_cast<size_t>(box.rank());
  int64_t largest = 0;
  for (const DType dtype : {types.source, types.wire, types.destination}) {
    if (ByteSize(dtype) == 0) return BadPiece("no dtype", box);
    largest = std::max(largest, ByteSize(dtype));
  }
  if (shape.size() != rank || source.strides_bytes.size() != rank ||
      destination.strides_bytes.size() != rank) {
    return BadPiece("numbers of dimensions disagree", box);
  }
  if (!box.empty() && !box.FitsIn(shape)) {
    return BadPiece("outside the tensor", box);
  }
  const std::optional<int64_t> elements = NumElements(shape);
  int64_t bytes = 0;
  if (!elements || __builtin_mul_overflow(*elements, largest, &bytes)) {
    return BadPiece("the tensor's size overflows", box);
  }
  // The numbers of bytes tell: of the types that are cast, the wider one has
  // all values of the narrower, and none of two of 16 bits those of the other.
  if (types.destination != types.wire &&
      ByteSize(types.destination) <= ByteSize(types.wire)) {
    return BadPiece(
        absl::StrCat("destination type ", DTypeName(types.destination),
                     " has less precision than the wire's ",
                     DTypeName(types.wire)),
        box);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BoxCopy> BoxCopy::Create(const CopyTypes& types,
                                        absl::Span<const int64_t> shape,
                                        const Box& box,
                                        const StridedPlace& source,
                                        const StridedPlace& destination) {
  SLUICE_RETURN_IF_ERROR(CheckGeometry(types, shape, box, source, destination));
  const int64_t element = ByteSize(types.wire);
  BoxCopy copy;
  copy.num_bytes_ = box.empty() ? 0 : box.num_elements() * element;
  copy.src_offset_ = source.offset_bytes;
  copy.dst_offset_ = destination.offset_bytes;
  const std::vector<int64_t> logical = RowMajorStrides(shape);
  std::vector<LoopDim> dims;
  for (size_t d = 0; d < shape.size(); ++d) {
    const Interval& extent = box.dim(static_cast<int>(d));
    copy.logical_offset_ += extent.lo * logical[d] * element;
    dims.push_back({extent.size(), logical[d] * element,
                    source.strides_bytes[d], destination.strides_bytes[d]});
  }
  const Geometry geometry{dims, copy.logical_offset_, types.wire};
  SLUICE_ASSIGN_OR_RETURN(
      copy.source_cast_,
      MakeCastSide(geometry, types.source, source, &LoopDim::src));
  SLUICE_ASSIGN_OR_RETURN(
      copy.destination_cast_,
      MakeCastSide(geometry, types.destination, destination, &LoopDim::dst));
  if (copy.num_bytes_ > 0) copy.SetLoops(dims, element);
  return copy;
}

void BoxCopy::SetLoops(const std::vector<LoopDim>& dims, int64_t element) {
  const bool reads = source_cast_ == nullptr;
  const bool writes = destination_cast_ == nullptr;
  if (reads && writes) {
    plain_ = Collapse(dims, element, {.src = true, .dst = true});
    hashed_ =
        Collapse(dims, element, {.logical = true, .src = true, .dst = true});
  }
  if (reads) {
    hashed_source_ = Collapse(dims, element, {.logical = true, .src = true});
    source_ = Collapse(dims, element, {.src = true});
  }
  if (writes) {
    hashed_destination_ =
        Collapse(dims, element, {.logical = true, .dst = true});
    destination_ = Collapse(dims, element, {.dst = true});
  }
}

absl::StatusOr<BoxCopy> BoxCopy::ForSource(DType source_dtype, DType wire_dtype,
                                           absl::Span<const int64_t> shape,
                                           const Box& box,
                                           const StridedPlace& source) {
  return Create({source_dtype, wire_dtype, wire_dtype}, shape, box, source,
                source);
}

absl::StatusOr<BoxCopy> BoxCopy::ForDestination(
    DType wire_dtype, DType destination_dtype, absl::Span<const int64_t> shape,
    const Box& box, const StridedPlace& destination) {
  return Create({wire_dtype, wire_dtype, destination_dtype}, shape, box,
                destination, destination);
}

// Lets the free functions below read a BoxCopy.
struct BoxCopyAccess {
  using Batch = LoopWalker::Batch;

  // One side of a movement: a strided place, or a dense stretch of bytes that
  // starts at byte `lo` of the sequence.
  struct Side {
    std::byte* base = nullptr;
    int64_t LoopDim::*space = nullptr;  // null: dense
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
    return {base + copy.src_offset_, &LoopDim::src, 0};
  }
  static Side Destination(const BoxCopy& copy, const void* memory) {
    auto* base = static_cast<std::byte*>(const_cast<void*>(memory));
    return {base + copy.dst_offset_, &LoopDim::dst, 0};
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

  static void Copy(const BoxCopy& copy, const Loops& loops, int64_t lo,
                   int64_t hi, const Side& from, const Side& to,
                   Stores stores) {
    LoopWalker::Walk(loops, lo, hi, [&](const Batch& b) {
      copy_internal::CopyRows(BestIsa(), RowsOf(copy, b, from, to),
                              stores == Stores::kStreaming);
    });
  }

  static void CopyAndDigest(const BoxCopy& copy, const Loops& loops, int64_t lo,
                            int64_t hi, const Side& from, const Side& to,
                            Stores stores, Digest& digest) {
    LoopWalker::Walk(loops, lo, hi, [&](const Batch& b) {
      copy_internal::CopyAndDigestRows(BestIsa(), RowsOf(copy, b, from, to),
                                       stores == Stores::kStreaming, digest);
    });
  }

  static void DigestSide(const BoxCopy& copy, const Loops& loops, int64_t lo,
                         int64_t hi, const Side& side, Digest& digest) {
    LoopWalker::Walk(loops, lo, hi, [&](const Batch& b) {
      copy_internal::DigestRows(BestIsa(), RowsOf(copy, b, side, {}), digest);
    });
  }

  // How one movement is done: which loops it may use for which purpose.
  struct Way {
    const Loops& plain;
    const Loops& hashed;
    const Loops& hashed_from;
    const Loops& hashed_to;
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
    const Loops& loops = from_is_longer ? way.hashed_from : way.hashed_to;
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
  // Null where the side does not cast.
  static const CastSide* CastsSource(const BoxCopy& c) {
    return c.source_cast_.get();
  }
  static const CastSide* CastsDestination(const BoxCopy& c) {
    return c.destination_cast_.get();
  }
  static const Loops& HashedSource(const BoxCopy& c) {
    return c.hashed_source_;
  }
  static const Loops& HashedDestination(const BoxCopy& c) {
    return c.hashed_destination_;
  }
};

std::optional<int64_t> BoxCopy::SourceRun(int64_t lo, int64_t hi) const {
  if (source_cast_ != nullptr) return std::nullopt;
  const std::optional<int64_t> offset =
      LoopWalker::RunOffset(source_, lo, hi, &LoopDim::src);
  if (!offset) return std::nullopt;
  return src_offset_ + *offset;
}

std::optional<int64_t> BoxCopy::DestinationRun(int64_t lo, int64_t hi) const {
  if (destination_cast_ != nullptr) return std::nullopt;
  const std::optional<int64_t> offset =
      LoopWalker::RunOffset(destination_, lo, hi, &LoopDim::dst);
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
  if (A::CastsSource(copy) || A::CastsDestination(copy)) {
    alignas(64) std::byte block[copy_internal::kCastBlockBytes];
    copy_internal::ForCastBlocks(lo, hi, [&](int64_t at, int64_t end) {
      PackBoxRange(copy, at, end, source, block, nullptr);
      UnpackBoxRange(copy, at, end, block, destination, digest);
    });
    return;
  }
  A::Move(copy, A::PlaceToPlace(copy), lo, hi, A::Source(copy, source),
          A::Destination(copy, destination), stores, digest);
}

void PackBoxRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                  const void* source, void* packed, Digest* digest) {
  using A = BoxCopyAccess;
  if (const CastSide* side = A::CastsSource(copy)) {
    copy_internal::PackCast(*side, lo, hi, source, packed, digest);
    return;
  }
  A::Move(copy, A::Packing(copy), lo, hi, A::Source(copy, source),
          A::Dense(packed, lo), Stores::kCached, digest);
}

void UnpackBoxRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                    const void* packed, void* destination, Digest* digest) {
  using A = BoxCopyAccess;
  if (const CastSide* side = A::CastsDestination(copy)) {
    copy_internal::UnpackCast(*side, lo, hi, packed, destination, digest);
    return;
  }
  A::Move(copy, A::Unpacking(copy), lo, hi, A::Dense(packed, lo),
          A::Destination(copy, destination), Stores::kStreaming, digest);
}

void DigestSourceRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                       const void* source, Digest& digest) {
  if (lo >= hi) return;
  using A = BoxCopyAccess;
  if (const CastSide* side = A::CastsSource(copy)) {
    copy_internal::DigestCast(*side, lo, hi, source, digest);
    return;
  }
  A::DigestSide(copy, A::HashedSource(copy), lo, hi, A::Source(copy, source),
                digest);
}

void DigestDestinationRange(const BoxCopy& copy, int64_t lo, int64_t hi,
                            const void* destination, Digest& digest) {
  if (lo >= hi) return;
  using A = BoxCopyAccess;
  if (const CastSide* side = A::CastsDestination(copy)) {
    copy_internal::DigestCast(*side, lo, hi, destination, digest);
    return;
  }
  A::DigestSide(copy, A::HashedDestination(copy), lo, hi,
                A::Destination(copy, destination), digest);
}

}  // namespace sluice::agent
