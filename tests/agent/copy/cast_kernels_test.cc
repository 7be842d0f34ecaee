#include "agent/copy/cast_kernels.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "agent/copy/copy_kernels.h"
#include "common/dtype.h"

namespace sluice::agent::copy_internal {
namespace {

using Bytes = std::vector<std::byte>;

// A binary floating-point type of IEEE 754's kind.
struct Format {
  DType dtype;
  int exponent_bits;
  int fraction_bits;

  int bytes() const { return (1 + exponent_bits + fraction_bits) / 8; }
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  uint64_t fraction_mask() const { return (uint64_t{1} << fraction_bits) - 1; }
  uint64_t infinity() const {
    return ((uint64_t{1} << exponent_bits) - 1) << fraction_bits;
  }
  uint64_t sign() const {
    return uint64_t{1} << (exponent_bits + fraction_bits);
  }
  bool IsNan(uint64_t bits) const { return (bits & ~sign()) > infinity(); }
};

constexpr Format kF64{DType::kF64, 11, 52};
constexpr Format kF32{DType::kF32, 8, 23};
constexpr Format kF16{DType::kF16, 5, 10};
constexpr Format kBF16{DType::kBF16, 8, 7};
constexpr Format kFormats[] = {kF64, kF32, kF16, kBF16};

// floor(value / 2^shift) rounded to nearest, to even in a tie.
uint64_t ShiftRounded(uint64_t value, int shift) {
  if (shift <= 0) return value << -shift;
  if (shift > 60) return 0;  // values have at most 53 bits
  const uint64_t whole = value >> shift;
  const uint64_t rest = value - (whole << shift);
  const uint64_t half = uint64_t{1} << (shift - 1);
  return whole + (rest > half || (rest == half && whole % 2 == 1) ? 1 : 0);
}

// The cast by integer arithmetic alone: the value is mantissa * 2^exponent.
uint64_t Reference(const Format& from, const Format& to, uint64_t bits) {
  const uint64_t sign = (bits & from.sign()) != 0 ? to.sign() : 0;
  const uint64_t rest = bits & ~from.sign();
  if (rest > from.infinity()) {
    const uint64_t payload = rest & from.fraction_mask();
    const int shift = to.fraction_bits - from.fraction_bits;
    const uint64_t kept = shift >= 0 ? payload << shift : payload >> -shift;
    const uint64_t top = uint64_t{1} << (to.fraction_bits - 1);
    return sign | to.infinity() | (kept != 0 ? kept : top);
  }
  if (rest == from.infinity()) return sign | to.infinity();
  const auto field = static_cast<int>(rest >> from.fraction_bits);
  const uint64_t fraction = rest & from.fraction_mask();
  const uint64_t mantissa =
      field == 0 ? fraction : fraction | (from.fraction_mask() + 1);
  const int exponent = std::max(field, 1) - from.bias() - from.fraction_bits;
  if (mantissa == 0) return sign;
  int width = 64 - __builtin_clzll(mantissa);
  // The exponent of the result's lowest bit.
  int lowest = std::max(exponent + width - 1 - to.fraction_bits,
                        1 - to.bias() - to.fraction_bits);
  uint64_t rounded = ShiftRounded(mantissa, lowest - exponent);
  if (rounded == 2 * (to.fraction_mask() + 1)) {
    rounded /= 2;
    ++lowest;
  }
  if (rounded <= to.fraction_mask()) return sign | rounded;  // below normal
  const int to_field = lowest + to.fraction_bits + to.bias();
  if (to_field >= (1 << to.exponent_bits) - 1) return sign | to.infinity();
  return sign | (static_cast<uint64_t>(to_field) << to.fraction_bits) |
         (rounded & to.fraction_mask());
}

std::vector<Isa> Isas() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (isa <= BestIsa()) isas.push_back(isa);
  }
  return isas;
}

Bytes Pack(const Format& format, const std::vector<uint64_t>& values) {
  const auto size = static_cast<size_t>(format.bytes());
  Bytes out(values.size() * size);
  for (size_t i = 0; i < values.size(); ++i) {
    std::memcpy(&out[i * size], &values[i], size);  // little-endian
  }
  return out;
}

uint64_t ValueAt(const Format& format, const std::byte* at) {
  uint64_t value = 0;
  std::memcpy(&value, at, static_cast<size_t>(format.bytes()));
  return value;
}

std::vector<uint64_t> CastContiguous(Isa isa, const Format& from,
                                     const Format& to,
                                     const std::vector<uint64_t>& values) {
  const Bytes in = Pack(from, values);
  Bytes out(values.size() * static_cast<size_t>(to.bytes()));
  const CastFunction cast = FindCast(isa, from.dtype, to.dtype);
  REQUIRE(cast != nullptr);
  cast(static_cast<int64_t>(values.size()), in.data(), from.bytes(), out.data(),
       to.bytes());
  std::vector<uint64_t> result;
  for (size_t i = 0; i < out.size(); i += static_cast<size_t>(to.bytes())) {
    result.push_back(ValueAt(to, &out[i]));
  }
  return result;
}

// Values near which roundings change: all patterns of the upper bits, with the
// lower ones near zero, near half and near full; and random ones.
std::vector<uint64_t> Interesting(const Format& format, const Format& to,
                                  std::mt19937_64& random) {
  std::vector<uint64_t> values;
  const int bits = format.bytes() * 8;
  if (bits == 16) {
    for (uint64_t v = 0; v < 65536; ++v) values.push_back(v);
    return values;
  }
  for (int i = 0; i < 200000; ++i) {
    values.push_back(random() >> (64 - bits));
  }
  for (const int cut : {format.fraction_bits - 10, format.fraction_bits - 7,
                        format.fraction_bits - to.fraction_bits}) {
    if (cut <= 0) continue;
    const uint64_t half = uint64_t{1} << (cut - 1);
    for (uint64_t upper = 0; upper < 65536; ++upper) {
      const uint64_t base = (upper << (bits - 16)) | (random() % 8 << cut);
      const uint64_t clean = base >> cut << cut;
      for (const uint64_t low :
           {uint64_t{0}, uint64_t{1}, half - 1, half, half + 1, 2 * half - 1}) {
        values.push_back(clean | low);
      }
    }
  }
  return values;
}

// Around each value of the narrower type and each middle between two.
void AddNeighbours(const Format& wide, const Format& narrow,
                   std::vector<uint64_t>& values) {
  for (uint64_t v = 0; v < 65536; ++v) {
    const uint64_t exact = Reference(narrow, wide, v);
    const uint64_t next = Reference(narrow, wide, v + 1);
    if ((v & 0x7fff) == 0x7fff || narrow.IsNan(v) || narrow.IsNan(v + 1)) {
      continue;
    }
    const uint64_t middle = exact + (next - exact) / 2;
    for (const uint64_t at : {exact, middle}) {
      for (int64_t d = -1; d <= 1; ++d) {
        values.push_back(at + static_cast<uint64_t>(d));
      }
    }
  }
}

TEST_CASE("casts round as integer arithmetic does, on every instruction set",
          "[cast]") {
  std::mt19937_64 random(Catch::rngSeed() + 1);
  for (const Format& from : kFormats) {
    for (const Format& to : kFormats) {
      if (from.dtype == to.dtype) continue;
      std::vector<uint64_t> values = Interesting(from, to, random);
      if (from.bytes() > 2 && to.bytes() == 2) AddNeighbours(from, to, values);
      std::vector<uint64_t> expected;
      for (const uint64_t v : values) {
        expected.push_back(Reference(from, to, v));
      }
      for (const Isa isa : Isas()) {
        CAPTURE(from.dtype, to.dtype, static_cast<int>(isa));
        const std::vector<uint64_t> got = CastContiguous(isa, from, to, values);
        const auto wrong =
            std::mismatch(got.begin(), got.end(), expected.begin());
        if (wrong.first != got.end()) {
          const auto at = static_cast<size_t>(wrong.first - got.begin());
          CAPTURE(values[at], got[at], expected[at]);
          FAIL();
        }
      }
    }
  }
}

TEST_CASE("what is widened and cast back has the same bits", "[cast]") {
  std::mt19937_64 random(Catch::rngSeed() + 2);
  for (const Format& narrow : {kF32, kF16, kBF16}) {
    const std::vector<uint64_t> values = Interesting(narrow, kF64, random);
    for (const Format& wide : {kF64, kF32}) {
      if (wide.bytes() <= narrow.bytes()) continue;
      for (const Isa isa : Isas()) {
        CAPTURE(narrow.dtype, wide.dtype, static_cast<int>(isa));
        const auto there = CastContiguous(isa, narrow, wide, values);
        CHECK(CastContiguous(isa, wide, narrow, there) == values);
      }
    }
  }
}

TEST_CASE("known values", "[cast]") {
  struct Known {
    Format from, to;
    uint64_t value, expected;
  };
  const Known table[] = {
      {kF32, kBF16, 0x3f800000, 0x3f80},  // 1
      {kF32, kBF16, 0x3f808000, 0x3f80},  // a tie, down to even
      {kF32, kBF16, 0x3f818000, 0x3f82},  // a tie, up to even
      {kF32, kBF16, 0x7f7fffff, 0x7f80},  // the largest: infinity
      {kF32, kF16, 0x477fefff, 0x7bff},   // just below 65520: 65504
      {kF32, kF16, 0x477ff000, 0x7c00},   // 65520: infinity
      {kF32, kF16, 0x33000000, 0x0000},   // 2^-25: a tie to zero
      {kF32, kF16, 0x33000001, 0x0001},   // above it: 2^-24
      {kF32, kF16, 0xc0490fdb, 0xc248},   // -pi
      {kF32, kF16, 0xffffffff, 0xffff},   // a NaN
      {kF32, kBF16, 0x7f800001, 0x7fc0},  // its payload does not fit
      {kF16, kF32, 0x0001, 0x33800000},   // 2^-24
      {kF16, kBF16, 0x7bff, 0x4780},      // 65504 -> 65536
      {kF64, kF32, 0x3ff0000000000000, 0x3f800000},
      // 1 + 2^-8 + 2^-40: as an F32 it would be a tie.
      {kF64, kBF16, 0x3ff0100000001000, 0x3f81},
      {kF64, kF32, 0x7fefffffffffffff, 0x7f800000},
  };
  for (const Known& known : table) {
    CAPTURE(known.from.dtype, known.to.dtype, known.value);
    CHECK(Reference(known.from, known.to, known.value) == known.expected);
    for (const Isa isa : Isas()) {
      CHECK(CastContiguous(isa, known.from, known.to, {known.value}) ==
            std::vector<uint64_t>{known.expected});
    }
  }
}

TEST_CASE("strided casts touch their elements only", "[cast]") {
  std::mt19937_64 random(Catch::rngSeed() + 3);
  for (int round = 0; round < 500; ++round) {
    const Format& from = kFormats[random() % 4];
    const Format& to = kFormats[random() % 4];
    if (from.dtype == to.dtype) continue;
    const auto n = static_cast<int64_t>(random() % 40);
    // At odd addresses, forwards and backwards.
    const auto stride_of = [&](const Format& format) {
      const auto gap = static_cast<int64_t>(random() % 3 * (random() % 9));
      return (format.bytes() + gap) * (random() % 4 == 0 ? -1 : 1);
    };
    const int64_t src_stride = stride_of(from), dst_stride = stride_of(to);
    Bytes in(2000), out(2000, std::byte{0xEE});
    for (std::byte& b : in) b = static_cast<std::byte>(random());
    Bytes expected = out;
    const auto src = static_cast<int64_t>(1000 + random() % 2);
    const auto dst = static_cast<int64_t>(1000 + random() % 2);
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t value =
          Reference(from, to, ValueAt(from, in.data() + src + i * src_stride));
      std::memcpy(expected.data() + dst + i * dst_stride, &value,
                  static_cast<size_t>(to.bytes()));
    }
    for (const Isa isa : Isas()) {
      CAPTURE(round, from.dtype, to.dtype, n, src_stride, dst_stride);
      Bytes got = out;
      FindCast(isa, from.dtype, to.dtype)(n, in.data() + src, src_stride,
                                          got.data() + dst, dst_stride);
      REQUIRE(got == expected);
    }
  }
}

TEST_CASE("other types have no cast", "[cast]") {
  for (const DType other : {DType::kI32, DType::kU8, DType::kF8E4M3,
                            DType::kUnspecified, DType::kF32}) {
    CHECK(FindCast(Isa::kPortable, DType::kF32, other) == nullptr);
    CHECK(FindCast(Isa::kPortable, other, DType::kF32) == nullptr);
  }
}

}  // namespace
}  // namespace sluice::agent::copy_internal
