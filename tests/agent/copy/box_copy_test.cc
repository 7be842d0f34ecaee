#include "agent/copy/box_copy.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "agent/copy/cast_kernels.h"
#include "agent/copy/copy_kernels.h"
#include "agent/copy/digest.h"

namespace sluice::agent {
namespace {

using Bytes = std::vector<std::byte>;

// A tensor, a box in it and two random memories that hold the box.
struct Case {
  CopyTypes types;
  Shape shape;
  Box box;
  StridedPlace src, dst;
  int64_t src_bytes = 0, dst_bytes = 0;
};

int64_t Pick(std::mt19937_64& random, int64_t lo, int64_t hi) {
  return lo + static_cast<int64_t>(random() % static_cast<uint64_t>(hi - lo));
}

// Places a box with its dimensions in a random order, with random gaps; sets
// `bytes` to the size of the memory.
StridedPlace RandomPlace(std::mt19937_64& random, const Box& box,
                         int64_t element, bool shuffle, int64_t& bytes) {
  std::vector<size_t> order(static_cast<size_t>(box.rank()));
  std::iota(order.begin(), order.end(), size_t{0});
  if (shuffle) std::shuffle(order.begin(), order.end(), random);
  StridedPlace place{.offset_bytes = element * Pick(random, 0, 5),
                     .strides_bytes = std::vector<int64_t>(order.size())};
  int64_t stride = element;
  for (auto d = order.rbegin(); d != order.rend(); ++d) {
    place.strides_bytes[*d] = stride;
    const int64_t gap = Pick(random, 0, 3) == 0 ? Pick(random, 0, 4) : 0;
    stride *= box.dim(static_cast<int>(*d)).size() + gap;
  }
  bytes = place.offset_bytes + stride + element;
  return place;
}

// One type, or casts on one side or both.
CopyTypes RandomTypes(std::mt19937_64& random) {
  static constexpr DType kPlain[] = {DType::kU8, DType::kBF16, DType::kF32,
                                     DType::kF64};
  if (random() % 3 == 0) return CopyTypes::Same(kPlain[random() % 4]);
  static constexpr DType kCast[] = {DType::kF16, DType::kBF16, DType::kF32,
                                    DType::kF64};
  CopyTypes types = CopyTypes::Same(kCast[random() % 4]);
  types.source = kCast[random() % 4];
  const DType destination = kCast[random() % 4];
  if (ByteSize(destination) > ByteSize(types.wire)) {
    types.destination = destination;
  }
  return types;
}

Case RandomCase(std::mt19937_64& random) {
  Case c;
  c.types = RandomTypes(random);
  std::vector<Interval> dims;
  const int64_t rank = Pick(random, 0, 5);
  for (int64_t d = 0; d < rank; ++d) {
    const int64_t size = Pick(random, 1, rank > 2 ? 12 : 90);
    const int64_t lo = Pick(random, 0, size);
    dims.push_back(random() % 3 == 0
                       ? Interval{0, size}
                       : Interval{lo, Pick(random, lo, size) + 1});
    c.shape.push_back(size);
  }
  c.box = Box(dims);
  c.src = RandomPlace(random, c.box, ByteSize(c.types.source),
                      random() % 3 == 0, c.src_bytes);
  c.dst = RandomPlace(random, c.box, ByteSize(c.types.destination),
                      random() % 3 == 0, c.dst_bytes);
  return c;
}

// Calls visit(sequence, logical, src, dst) with the byte offsets of each
// element, in row-major order of the box.
template <typename Visit>
void ForEachElement(const Case& c, Visit visit) {
  const std::vector<int64_t> logical = RowMajorStrides(c.shape);
  const int64_t element = ByteSize(c.types.wire);
  const Shape extents = c.box.shape();
  for (int64_t e = 0; e < c.box.num_elements(); ++e) {
    int64_t rest = e, flat = 0, src = c.src.offset_bytes,
            dst = c.dst.offset_bytes;
    for (size_t d = extents.size(); d-- > 0;) {
      const int64_t i = rest % extents[d];
      rest /= extents[d];
      flat += (c.box.dim(static_cast<int>(d)).lo + i) * logical[d];
      src += i * c.src.strides_bytes[d];
      dst += i * c.dst.strides_bytes[d];
    }
    visit(e * element, flat * element, src, dst);
  }
}

// What must come out, one element at a time.
struct Expected {
  Bytes source, destination, sequence;
  // Digest of each byte of the sequence.
  std::vector<Digest> digests;
  Digest Sum(int64_t lo, int64_t hi) const {
    Digest sum;
    for (int64_t i = lo; i < hi; ++i) sum += digests[static_cast<size_t>(i)];
    return sum;
  }
};

size_t Index(int64_t i) { return static_cast<size_t>(i); }

void CastElement(DType from, DType to, const std::byte* src, std::byte* dst) {
  using copy_internal::FindCast;
  if (from == to) {
    std::memcpy(dst, src, Index(ByteSize(from)));
  } else {
    FindCast(copy_internal::Isa::kPortable, from, to)(1, src, 0, dst, 0);
  }
}

Expected Make(std::mt19937_64& random, const Case& c) {
  Expected e;
  e.source.resize(static_cast<size_t>(c.src_bytes));
  for (std::byte& b : e.source) b = static_cast<std::byte>(random());
  e.destination.assign(static_cast<size_t>(c.dst_bytes), std::byte{0xEE});
  ForEachElement(c, [&](int64_t, int64_t logical, int64_t src, int64_t dst) {
    std::byte wire[8];
    CastElement(c.types.source, c.types.wire, &e.source[Index(src)], wire);
    CastElement(c.types.wire, c.types.destination, wire,
                &e.destination[Index(dst)]);
    for (int64_t i = 0; i < ByteSize(c.types.wire); ++i) {
      e.sequence.push_back(wire[i]);
      e.digests.push_back(DigestRun(&wire[i], logical + i, 1));
    }
  });
  return e;
}

BoxCopy MakeCopy(const Case& c) {
  const auto copy = BoxCopy::Create(c.types, c.shape, c.box, c.src, c.dst);
  INFO(copy.status());
  REQUIRE(copy.ok());
  return *copy;
}

TEST_CASE("a box is copied between any two layouts, with its digest",
          "[box_copy]") {
  std::mt19937_64 random(Catch::rngSeed() + 1);
  for (int round = 0; round < 300; ++round) {
    const Case c = RandomCase(random);
    const Expected e = Make(random, c);
    const BoxCopy copy = MakeCopy(c);
    const int64_t n = copy.num_bytes();
    CAPTURE(round, c.box, c.types.source, c.types.wire, c.types.destination, n);
    REQUIRE(n == static_cast<int64_t>(e.sequence.size()));
    for (const Stores stores : {Stores::kStreaming, Stores::kCached}) {
      for (const bool with_digest : {false, true}) {
        Bytes out(e.destination.size(), std::byte{0xEE});
        Digest digest;
        CopyBox(copy, e.source.data(), out.data(), stores,
                with_digest ? &digest : nullptr);
        REQUIRE(out == e.destination);
        if (with_digest) REQUIRE(digest == e.Sum(0, n));
      }
    }
    Digest at_source, at_destination;
    DigestSourceRange(copy, 0, n, e.source.data(), at_source);
    DigestDestinationRange(copy, 0, n, e.destination.data(), at_destination);
    REQUIRE(at_source == e.Sum(0, n));
    REQUIRE(at_destination == at_source);
  }
}

TEST_CASE("ranges cut anywhere are packed, unpacked and copied alike",
          "[box_copy]") {
  std::mt19937_64 random(Catch::rngSeed() + 2);
  for (int round = 0; round < 200; ++round) {
    const Case c = RandomCase(random);
    const Expected e = Make(random, c);
    const BoxCopy copy = MakeCopy(c);
    const int64_t n = copy.num_bytes();
    CAPTURE(round, c.box, c.types.source, c.types.wire, c.types.destination, n);
    Bytes copied(e.destination.size(), std::byte{0xEE});
    Bytes unpacked = copied;
    Bytes packed;
    for (int64_t lo = 0; lo < n;) {
      const int64_t hi = std::min(n, lo + Pick(random, 1, 1 + n / 2 + 1));
      Bytes part(static_cast<size_t>(hi - lo));
      Digest copy_digest, pack_digest, unpack_digest, source_digest;
      CopyBoxRange(copy, lo, hi, e.source.data(), copied.data(),
                   Stores::kStreaming, &copy_digest);
      PackBoxRange(copy, lo, hi, e.source.data(), part.data(), &pack_digest);
      UnpackBoxRange(copy, lo, hi, part.data(), unpacked.data(),
                     &unpack_digest);
      DigestSourceRange(copy, lo, hi, e.source.data(), source_digest);
      packed.insert(packed.end(), part.begin(), part.end());
      const Digest expected = e.Sum(lo, hi);
      REQUIRE(copy_digest == expected);
      REQUIRE(pack_digest == expected);
      REQUIRE(unpack_digest == expected);
      REQUIRE(source_digest == expected);
      lo = hi;
    }
    REQUIRE(packed == e.sequence);
    REQUIRE(copied == e.destination);
    REQUIRE(unpacked == e.destination);
    const int64_t from = Pick(random, 0, n);
    const int64_t to = Pick(random, from, n) + 1;
    Digest landed;
    DigestDestinationRange(copy, from, to, unpacked.data(), landed);
    REQUIRE(landed == e.Sum(from, to));
  }
}

TEST_CASE("a range in one run says where it lies", "[box_copy]") {
  std::mt19937_64 random(Catch::rngSeed() + 3);
  for (int round = 0; round < 200; ++round) {
    const Case c = RandomCase(random);
    const Expected e = Make(random, c);
    const BoxCopy copy = MakeCopy(c);
    const int64_t n = copy.num_bytes();
    const int64_t lo = Pick(random, 0, n);
    const int64_t hi = Pick(random, lo, n) + 1;
    CAPTURE(round, c.box, c.types.source, c.types.wire, c.types.destination, lo,
            hi);
    const auto same = [&](const Bytes& memory, std::optional<int64_t> at) {
      return !at || std::equal(e.sequence.begin() + lo, e.sequence.begin() + hi,
                               memory.begin() + *at);
    };
    CHECK(same(e.source, copy.SourceRun(lo, hi)));
    CHECK(same(e.destination, copy.DestinationRun(lo, hi)));
    // One byte lies in one piece, except where it is made by a cast.
    CHECK(copy.SourceRun(lo, lo + 1).has_value() ==
          (c.types.source == c.types.wire));
    CHECK(copy.DestinationRun(lo, lo + 1).has_value() ==
          (c.types.destination == c.types.wire));
  }
}

TEST_CASE("runs are joined over dimensions that are contiguous on both sides",
          "[box_copy]") {
  // Rows [0,64) of a 128 x 256 bf16 tensor: one run of 64*256*2 bytes.
  const Box rows({{0, 64}, {0, 256}});
  const StridedPlace dense = DensePlace(rows, DType::kBF16);
  const auto one =
      BoxCopy::Create(DType::kBF16, {128, 256}, rows, dense, dense);
  REQUIRE(one.ok());
  CHECK(one->run_bytes() == 64 * 256 * 2);
  CHECK(one->SourceRun(0, 64 * 256 * 2) == 0);

  // Columns [0,128) out of rows of 256: runs of 128*2 bytes, though the
  // destination is dense.
  const Box columns({{0, 128}, {0, 128}});
  const auto strided = BoxCopy::Create(
      DType::kBF16, {128, 256}, columns, StridedPlace{0, {512, 2}},
      DensePlace(columns, DType::kBF16, /*offset_bytes=*/64));
  REQUIRE(strided.ok());
  CHECK(strided->run_bytes() == 256);
  CHECK_FALSE(strided->SourceRun(0, 257).has_value());
  CHECK(strided->DestinationRun(0, 128 * 256) == 64);
}

TEST_CASE("each side is cast alone, and nothing but it", "[box_copy]") {
  // Two columns of a 2 x 3 tensor; the source is transposed and F32.
  const Box box({{0, 2}, {1, 3}});
  const float source[] = {1.0f, -2.5f, 3.0078125f, 65504.0f};
  const auto from = BoxCopy::ForSource(DType::kF32, DType::kBF16, {2, 3}, box,
                                       StridedPlace{0, {4, 8}});
  REQUIRE(from.ok());
  // Rows (1, 3.0078125) and (-2.5, 65504): a tie to even, and 2^16.
  const std::vector<uint16_t> expected = {0x3f80, 0x4040, 0xc020, 0x4780};
  std::vector<uint16_t> packed(4);
  PackBoxRange(*from, 0, 8, source, packed.data(), nullptr);
  CHECK(packed == expected);
  CHECK_FALSE(from->SourceRun(0, 2).has_value());

  const auto to = BoxCopy::ForDestination(DType::kBF16, DType::kF64, {2, 3},
                                          box, StridedPlace{8, {16, 8}});
  REQUIRE(to.ok());
  std::vector<double> landed(6, 7.0);
  UnpackBoxRange(*to, 0, 8, packed.data(), landed.data(), nullptr);
  CHECK(landed == std::vector<double>{7.0, 1.0, 3.0, -2.5, 65536.0, 7.0});
  Digest sent, received;
  DigestSourceRange(*from, 0, 8, source, sent);
  DigestDestinationRange(*to, 0, 8, landed.data(), received);
  CHECK(sent == received);
}

TEST_CASE("places come from views and stay inside their parameter",
          "[box_copy]") {
  const TensorSpec tensor{"w", DType::kBF16, {8, 6}};
  const LocalParam param{"p", DType::kBF16, {4, 6}, /*offset_bytes=*/512};
  // Rows [4,8) of the tensor fill the parameter.
  const View view{TensorIndex(0), Box({{4, 8}, {0, 6}}), 0, 0, {6, 1}};
  // Element (5, 2): row 1, column 2 of the parameter: (1*6+2)*2 = 16 bytes.
  const auto place = PlaceInView(tensor, Box({{5, 7}, {2, 4}}), view, param);
  REQUIRE(place.ok());
  CHECK(*place == StridedPlace{512 + 16, {12, 2}});

  CHECK(
      PlaceInView(tensor, Box({{3, 5}, {0, 6}}), view, param).status().code() ==
      absl::StatusCode::kInvalidArgument);
  View beyond = view;
  beyond.offset = 1;  // the last element would be the 25th of 24
  CHECK_FALSE(PlaceInView(tensor, view.box, beyond, param).ok());
  // The parameter's elements count, not the tensor's: (1*6+2)*4 bytes.
  LocalParam wide = param;
  wide.dtype = DType::kF32;
  const auto cast = PlaceInView(tensor, Box({{5, 7}, {2, 4}}), view, wide);
  REQUIRE(cast.ok());
  CHECK(*cast == StridedPlace{512 + 32, {24, 4}});
}

TEST_CASE("places outside their memory and impossible boxes are refused",
          "[box_copy]") {
  const Box box({{0, 4}, {0, 4}});
  const StridedPlace dense = DensePlace(box, DType::kF32);
  CHECK(CheckPlace(dense, box, DType::kF32, 64).ok());
  CHECK_FALSE(CheckPlace(dense, box, DType::kF32, 63).ok());
  CHECK_FALSE(CheckPlace({-4, {16, 4}}, box, DType::kF32, 64).ok());
  // Downwards from the last row.
  CHECK(CheckPlace({48, {-16, 4}}, box, DType::kF32, 64).ok());
  CHECK_FALSE(CheckPlace({44, {-16, 4}}, box, DType::kF32, 64).ok());
  CHECK_FALSE(
      CheckPlace({0, {int64_t{1} << 62, 4}}, box, DType::kF32, 64).ok());
  CHECK_FALSE(CheckPlace({0, {4}}, box, DType::kF32, 64).ok());

  CHECK_FALSE(BoxCopy::Create(DType::kF32, {4, 3}, box, dense, dense).ok());
  CHECK_FALSE(BoxCopy::Create(DType::kF32, {4}, box, dense, dense).ok());
  CHECK_FALSE(
      BoxCopy::Create(DType::kUnspecified, {4, 4}, box, dense, dense).ok());
  // No cast; and a destination that could not give the wire's values back.
  using D = DType;
  for (const CopyTypes& types : {CopyTypes{D::kI32, D::kF32, D::kF32},
                                 CopyTypes{D::kF32, D::kU8, D::kU8},
                                 CopyTypes{D::kF32, D::kBF16, D::kF8E4M3},
                                 CopyTypes{D::kBF16, D::kBF16, D::kI32},
                                 CopyTypes{D::kBF16, D::kBF16, D::kF16},
                                 CopyTypes{D::kF32, D::kF32, D::kBF16}}) {
    CAPTURE(types.source, types.wire, types.destination);
    const StridedPlace wide = DensePlace(box, DType::kF64);
    CHECK(BoxCopy::Create(types, {4, 4}, box, wide, wide).status().code() ==
          absl::StatusCode::kInvalidArgument);
  }
  const Box empty({{2, 2}, {0, 4}});
  const auto nothing = BoxCopy::Create(DType::kF32, {4, 4}, empty,
                                       DensePlace(empty, DType::kF32), dense);
  REQUIRE(nothing.ok());
  CHECK(nothing->num_bytes() == 0);
  CopyBox(*nothing, nullptr, nullptr, Stores::kCached, nullptr);
}

}  // namespace
}  // namespace sluice::agent
