// Kernels as host loops against the plain implementations of agent/copy.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "agent/copy/box_copy.h"
#include "agent/copy/cast_kernels.h"
#include "agent/copy/copy_kernels.h"
#include "agent/copy/strided_place.h"
#include "agent/cuda/box_list.h"
#include "agent/cuda/descriptors.h"
#include "agent/cuda/element_types.h"
#include "common/box.h"
#include "common/digest_value.h"
#include "common/dtype.h"
#include "tests/fakes/cuda/host_grid.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent::cuda {
namespace {

using Random = std::mt19937_64;

constexpr int64_t kAlign = 64;

// Memory whose first byte lies at a multiple of 64.
class Memory {
 public:
  explicit Memory(int64_t bytes)
      : bytes_(static_cast<size_t>(bytes + kAlign)), size_(bytes) {
    const auto at = reinterpret_cast<uintptr_t>(bytes_.data());
    shift_ = (kAlign - at % kAlign) % kAlign;
  }
  std::byte* data() { return bytes_.data() + shift_; }
  uint64_t address() { return reinterpret_cast<uintptr_t>(data()); }
  int64_t size() const { return size_; }
  void Fill(Random& random) {
    for (int64_t i = 0; i < size_; ++i) {
      data()[i] = static_cast<std::byte>(random());
    }
  }
  bool Equals(Memory& other) {
    return size_ == other.size_ &&
           std::memcmp(data(), other.data(), static_cast<size_t>(size_)) == 0;
  }

 private:
  std::vector<std::byte> bytes_;
  size_t shift_ = 0;
  int64_t size_;
};

int64_t Below(Random& random, int64_t limit) {
  return static_cast<int64_t>(random() % static_cast<uint64_t>(limit));
}

struct Tensor {
  std::vector<int64_t> shape;
  Box box;
};

Tensor RandomTensor(Random& random) {
  Tensor tensor;
  std::vector<Interval> dims;
  const int64_t rank = 1 + Below(random, 4);
  for (int64_t d = 0; d < rank; ++d) {
    const bool last = d + 1 == rank;
    int64_t size = 1 + Below(random, last ? (rank == 1 ? 9000 : 260) : 6);
    if (Below(random, 2) == 0 && last) size = (size + 63) / 64 * 64;
    const bool whole = Below(random, 2) == 0;
    const int64_t lo = whole ? 0 : Below(random, size);
    const int64_t hi = whole ? size : lo + 1 + Below(random, size - lo);
    tensor.shape.push_back(size);
    dims.push_back({lo, hi});
  }
  tensor.box = Box(dims);
  return tensor;
}

struct Placed {
  StridedPlace place;
  int64_t end = 0;  // bytes of memory it needs
};

// Stores a box from `start` on: dimensions in some order, some of them padded,
// some of them backwards.
Placed Place(Random& random, const Box& box, int64_t element, int64_t start) {
  Placed placed;
  const auto rank = static_cast<size_t>(box.rank());
  std::vector<size_t> order(rank);
  std::iota(order.begin(), order.end(), size_t{0});
  if (Below(random, 3) == 0) std::shuffle(order.begin(), order.end(), random);
  placed.place.strides_bytes.resize(rank);
  int64_t stride = element;
  int64_t first = start + Below(random, 3) * Below(random, 16) * element;
  for (size_t i = rank; i-- > 0;) {
    const size_t d = order[i];
    const int64_t size = box.dim(static_cast<int>(d)).size();
    placed.place.strides_bytes[d] = stride;
    if (Below(random, 8) == 0) {
      placed.place.strides_bytes[d] = -stride;
      first += (size - 1) * stride;
    }
    stride *= size;
    if (Below(random, 3) == 0) stride += Below(random, 9) * element;
    if (Below(random, 3) == 0) stride = (stride + 15) / 16 * 16;
  }
  placed.place.offset_bytes = first;
  placed.end = start + stride + 48 * element;
  return placed;
}

struct Case {
  Tensor tensor;
  Placed from;
  Placed to;
};

BoxPlace PlaceOf(const Case& c, const std::vector<int64_t>& extents,
                 uint64_t src, uint64_t dst) {
  return {.extents = extents,
          .src = src + static_cast<uint64_t>(c.from.place.offset_bytes),
          .src_strides = c.from.place.strides_bytes,
          .dst = dst + static_cast<uint64_t>(c.to.place.offset_bytes),
          .dst_strides = c.to.place.strides_bytes,
          .logical = 0,
          .logical_strides = {}};
}

std::vector<int64_t> Extents(const Box& box) {
  std::vector<int64_t> extents;
  for (const Interval& dim : box.dims()) extents.push_back(dim.size());
  return extents;
}

// Boxes that lie one behind the other in both memories.
std::vector<Case> RandomCases(Random& random, int64_t count,
                              int64_t from_element, int64_t to_element) {
  std::vector<Case> cases;
  int64_t from_at = 0;
  int64_t to_at = 0;
  for (int64_t i = 0; i < count; ++i) {
    Case c{RandomTensor(random), {}, {}};
    c.from = Place(random, c.tensor.box, from_element, from_at);
    c.to = Place(random, c.tensor.box, to_element, to_at);
    from_at = (c.from.end + 7) / 8 * 8;
    to_at = (c.to.end + 7) / 8 * 8;
    cases.push_back(std::move(c));
  }
  return cases;
}

uint32_t RandomBlocks(Random& random) {
  return static_cast<uint32_t>(1 + Below(random, 7));
}

TEST_CASE(
    "boxes are copied as agent/copy copies them, and nothing else is "
    "written",
    "[cuda]") {
  Random random(Catch::rngSeed() + 2);
  const std::vector<DType> dtypes = {DType::kU8, DType::kBF16, DType::kF32,
                                     DType::kF64};
  bool seen_width[5] = {};
  for (int round = 0; round < 150; ++round) {
    const DType dtype = dtypes[random() % dtypes.size()];
    const int64_t element = ByteSize(dtype);
    const std::vector<Case> cases =
        RandomCases(random, 1 + Below(random, 6), element, element);
    Memory source(cases.back().from.end + kAlign);
    Memory copied(cases.back().to.end + kAlign);
    source.Fill(random);
    copied.Fill(random);  // poison
    Memory expected = copied;
    std::memcpy(expected.data(), copied.data(),
                static_cast<size_t>(copied.size()));
    BoxList list = BoxList::ForCopies();
    for (const Case& c : cases) {
      const std::vector<int64_t> extents = Extents(c.tensor.box);
      REQUIRE_OK(list.Add(
          PlaceOf(c, extents, source.address(), copied.address()), element));
      REQUIRE_OK_AND_ASSIGN(const BoxCopy copy,
                            BoxCopy::Create(dtype, c.tensor.shape, c.tensor.box,
                                            c.from.place, c.to.place));
      CopyBox(copy, source.data(), expected.data(), Stores::kCached, nullptr);
    }
    HostCopy(list.Batch(list.boxes().data()), RandomBlocks(random));
    REQUIRE(copied.Equals(expected));
    for (const BoxDescriptor& box : list.boxes()) {
      seen_width[box.unit_log2] = true;
    }
  }
  for (const bool seen : seen_width) CHECK(seen);
}

TEST_CASE("pack and unpack are copies with one dense side", "[cuda]") {
  Random random(Catch::rngSeed() + 3);
  for (int round = 0; round < 60; ++round) {
    const std::vector<Case> cases = RandomCases(random, 4, 2, 2);
    Memory source(cases.back().from.end + kAlign);
    Memory back(source.size());
    source.Fill(random);
    std::memset(back.data(), 0xee, static_cast<size_t>(back.size()));
    int64_t bytes = 0;
    for (const Case& c : cases) bytes += c.tensor.box.num_elements() * 2;
    Memory packed(bytes);
    Memory expected(bytes);
    BoxList pack = BoxList::ForCopies();
    BoxList unpack = BoxList::ForCopies();
    int64_t at = 0;
    for (const Case& c : cases) {
      const StridedPlace dense = DensePlace(c.tensor.box, DType::kBF16, at);
      const std::vector<int64_t> extents = Extents(c.tensor.box);
      const auto base = static_cast<uint64_t>(c.from.place.offset_bytes);
      const auto offset = static_cast<uint64_t>(at);
      BoxPlace place{.extents = extents,
                     .src = source.address() + base,
                     .src_strides = c.from.place.strides_bytes,
                     .dst = packed.address() + offset,
                     .dst_strides = dense.strides_bytes,
                     .logical = 0,
                     .logical_strides = {}};
      REQUIRE_OK(pack.Add(place, 2));
      std::swap(place.src, place.dst);
      std::swap(place.src_strides, place.dst_strides);
      place.dst = back.address() + base;
      REQUIRE_OK(unpack.Add(place, 2));
      REQUIRE_OK_AND_ASSIGN(
          const BoxCopy copy,
          BoxCopy::ForSource(DType::kBF16, DType::kBF16, c.tensor.shape,
                             c.tensor.box, c.from.place));
      PackBoxRange(copy, 0, copy.num_bytes(), source.data(),
                   expected.data() + at, nullptr);
      at += copy.num_bytes();
    }
    HostCopy(pack.Batch(pack.boxes().data()), RandomBlocks(random));
    REQUIRE(packed.Equals(expected));
    HostCopy(unpack.Batch(unpack.boxes().data()), RandomBlocks(random));
    Memory whole(back.size());
    std::memset(whole.data(), 0xee, static_cast<size_t>(whole.size()));
    for (const Case& c : cases) {
      REQUIRE_OK_AND_ASSIGN(
          const BoxCopy copy,
          BoxCopy::Create(DType::kBF16, c.tensor.shape, c.tensor.box,
                          c.from.place, c.from.place));
      CopyBox(copy, source.data(), whole.data(), Stores::kCached, nullptr);
    }
    REQUIRE(back.Equals(whole));
  }
}

// Calls visit(index) for all positions of a box, row-major.
template <typename Visit>
void ForPositions(const std::vector<int64_t>& extents, const Visit& visit) {
  std::vector<int64_t> index(extents.size(), 0);
  while (true) {
    visit(index);
    size_t d = extents.size();
    while (d > 0 && ++index[d - 1] == extents[d - 1]) index[--d] = 0;
    if (d == 0) return;
  }
}

int64_t OffsetOf(const StridedPlace& place, const std::vector<int64_t>& index) {
  int64_t offset = place.offset_bytes;
  for (size_t d = 0; d < index.size(); ++d) {
    offset += index[d] * place.strides_bytes[d];
  }
  return offset;
}

constexpr Element kElements[] = {Element::kF64, Element::kF32, Element::kBF16,
                                 Element::kF16};
constexpr Element kBlended[] = {Element::kF32, Element::kBF16, Element::kF16};

// Random bits are seldom NaNs, infinities or tiny: makes some of them.
void FillElements(Random& random, Element element, Memory& memory) {
  memory.Fill(random);
  const int64_t bytes = ByteSize(DTypeOf(element));
  for (int64_t at = 0; at + bytes <= memory.size(); at += bytes) {
    const uint64_t kind = random() % 8;
    std::byte& top = memory.data()[at + bytes - 1];
    if (kind == 0) top = std::byte{0x7f} | (top & std::byte{0x80});
    if (kind == 1) top = top & std::byte{0x80};
    if (kind == 2) {
      std::memset(memory.data() + at, 0, static_cast<size_t>(bytes));
    }
    if (kind > 4 && bytes >= 4) {  // of the size of weights
      const std::byte exponent{uint8_t(bytes == 4 ? 0x3c : 0x3f)};
      top = (top & std::byte{0x80}) | exponent;
    }
  }
}

TEST_CASE("boxes are cast as agent/copy casts elements", "[cuda]") {
  Random random(Catch::rngSeed() + 4);
  bool seen_group[4] = {};
  for (const Element from : kElements) {
    for (const Element to : kElements) {
      const int64_t in = ByteSize(DTypeOf(from));
      const int64_t out = ByteSize(DTypeOf(to));
      const auto cast = copy_internal::FindCast(copy_internal::Isa::kPortable,
                                                DTypeOf(from), DTypeOf(to));
      for (int round = 0; round < 14; ++round) {
        const std::vector<Case> cases = RandomCases(random, 3, in, out);
        Memory source(cases.back().from.end + kAlign);
        Memory result(cases.back().to.end + kAlign);
        FillElements(random, from, source);
        result.Fill(random);  // poison
        Memory expected(result.size());
        std::memcpy(expected.data(), result.data(),
                    static_cast<size_t>(result.size()));
        BoxList list = BoxList::ForElements();
        for (const Case& c : cases) {
          const std::vector<int64_t> extents = Extents(c.tensor.box);
          REQUIRE_OK(
              list.Add(PlaceOf(c, extents, source.address(), result.address()),
                       in, out));
          ForPositions(extents, [&](const std::vector<int64_t>& index) {
            std::byte* src = source.data() + OffsetOf(c.from.place, index);
            std::byte* dst = expected.data() + OffsetOf(c.to.place, index);
            if (cast == nullptr) {
              std::memcpy(dst, src, static_cast<size_t>(in));
            } else {
              cast(1, src, in, dst, out);
            }
          });
        }
        HostCast(list.Batch(list.boxes().data()), from, to,
                 RandomBlocks(random));
        CAPTURE(DTypeOf(from), DTypeOf(to));
        REQUIRE(result.Equals(expected));
        for (const BoxDescriptor& box : list.boxes()) {
          seen_group[box.unit_log2] = true;
        }
      }
    }
  }
  for (const bool seen : seen_group) CHECK(seen);
}

double Value(Element element, const std::byte* at) {
  const auto widen = copy_internal::FindCast(copy_internal::Isa::kPortable,
                                             DTypeOf(element), DType::kF64);
  double value;
  widen(1, at, 8, reinterpret_cast<std::byte*>(&value), 8);
  return value;
}

TEST_CASE("a blend is the fused sum in F32, rounded once", "[cuda]") {
  Random random(Catch::rngSeed() + 5);
  for (const Element from : kBlended) {
    for (const Element to : kBlended) {
      const int64_t in = ByteSize(DTypeOf(from));
      const int64_t out = ByteSize(DTypeOf(to));
      const int64_t n = 1000 + Below(random, 3000);
      const float eta = 0.001f * static_cast<float>(Below(random, 1001));
      Memory source(n * in);
      Memory result(n * out);
      std::normal_distribution<float> weights(0, 0.02f);
      const auto fill = [&](Element element, Memory& memory, int64_t bytes) {
        const auto narrow = copy_internal::FindCast(
            copy_internal::Isa::kPortable, DType::kF32, DTypeOf(element));
        for (int64_t i = 0; i < n; ++i) {
          const float value = weights(random);
          const auto* raw = reinterpret_cast<const std::byte*>(&value);
          std::byte* dst = memory.data() + i * bytes;
          if (narrow == nullptr) {
            std::memcpy(dst, raw, 4);
          } else {
            narrow(1, raw, 4, dst, bytes);
          }
        }
      };
      fill(from, source, in);
      fill(to, result, out);
      Memory old = result;
      std::memcpy(old.data(), result.data(), static_cast<size_t>(n * out));
      BoxList list = BoxList::ForElements();
      REQUIRE_OK(list.Add({.extents = {n},
                           .src = source.address(),
                           .src_strides = {in},
                           .dst = result.address(),
                           .dst_strides = {out},
                           .logical = 0,
                           .logical_strides = {}},
                          in, out));
      HostBlend(list.Batch(list.boxes().data()), from, to, eta,
                RandomBlocks(random));
      const double ulp = to == Element::kBF16  ? 0x1p-8
                         : to == Element::kF16 ? 0x1p-11
                                               : 0x1p-24;
      for (int64_t i = 0; i < n; ++i) {
        const double s = Value(from, source.data() + i * in);
        const double d = Value(to, old.data() + i * out);
        const double e = static_cast<double>(eta);
        const double exact = e * s + (1 - e) * d;
        const double bound = 0x1p-23 * (std::abs(s) + std::abs(d)) +
                             ulp * std::abs(exact) + 0x1p-24;
        CAPTURE(i, s, d, eta);
        REQUIRE(std::abs(Value(to, result.data() + i * out) - exact) <= bound);
      }
    }
  }
}

TEST_CASE("digests of boxes are the host's, bit by bit", "[cuda]") {
  Random random(Catch::rngSeed() + 6);
  const std::vector<DType> dtypes = {DType::kU8, DType::kBF16, DType::kF32,
                                     DType::kF64};
  bool seen_width[5] = {};
  for (int round = 0; round < 150; ++round) {
    const DType dtype = dtypes[random() % dtypes.size()];
    const int64_t element = ByteSize(dtype);
    const int64_t count = 1 + Below(random, 6);
    const std::vector<Case> cases =
        RandomCases(random, count, element, element);
    Memory source(cases.back().from.end + kAlign);
    source.Fill(random);
    std::vector<DigestSlot> slots(static_cast<size_t>(count));
    std::vector<Digest> expected(static_cast<size_t>(count));
    BoxList list = BoxList::ForDigests();
    for (const Case& c : cases) {
      // Some boxes add to the same tensor.
      const auto slot = static_cast<uint32_t>(Below(random, count));
      const std::vector<int64_t> extents = Extents(c.tensor.box);
      std::vector<int64_t> logical = RowMajorStrides(c.tensor.shape);
      int64_t first = 0;
      for (size_t d = 0; d < logical.size(); ++d) {
        logical[d] *= element;
        first += logical[d] * c.tensor.box.dim(static_cast<int>(d)).lo;
      }
      REQUIRE_OK(
          list.Add({.extents = extents,
                    .src = source.address() +
                           static_cast<uint64_t>(c.from.place.offset_bytes),
                    .src_strides = c.from.place.strides_bytes,
                    .dst = 0,
                    .dst_strides = {},
                    .logical = static_cast<uint64_t>(first),
                    .logical_strides = logical,
                    .slot = slot},
                   element));
      REQUIRE_OK_AND_ASSIGN(const BoxCopy copy,
                            BoxCopy::ForSource(dtype, dtype, c.tensor.shape,
                                               c.tensor.box, c.from.place));
      DigestSourceRange(copy, 0, copy.num_bytes(), source.data(),
                        expected[slot]);
    }
    HostDigest(list.Batch(list.boxes().data()), slots.data(),
               RandomBlocks(random));
    for (size_t i = 0; i < slots.size(); ++i) {
      CAPTURE(i, count);
      REQUIRE(Digest{slots[i].lane0, slots[i].lane1} == expected[i]);
    }
    for (const BoxDescriptor& box : list.boxes()) {
      seen_width[box.unit_log2] = true;
    }
  }
  CHECK(seen_width[0]);
  CHECK(seen_width[1]);
  CHECK(seen_width[2]);
  CHECK(seen_width[4]);
}

}  // namespace
}  // namespace sluice::agent::cuda
