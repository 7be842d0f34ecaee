// F8_E4M3 with block scales, as host loops, against the definition in double
// precision.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "agent/copy/cast_kernels.h"
#include "agent/copy/copy_kernels.h"
#include "agent/cuda/descriptors.h"
#include "agent/cuda/element_types.h"
#include "agent/cuda/fp8_math.h"
#include "agent/cuda/quant_list.h"
#include "common/dtype.h"
#include "tests/fakes/cuda/host_grid.h"
#include "tests/support/status_matchers.h"

namespace sluice::agent::cuda {
namespace {

using testing::StatusIs;
using Random = std::mt19937_64;

// The value of a code, by the format's definition.
double Decoded(uint8_t code) {
  const double sign = (code & 0x80) != 0 ? -1 : 1;
  const int exponent = (code >> 3) & 15;
  const int mantissa = code & 7;
  if (exponent == 15 && mantissa == 7) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, -9);
  return sign * std::ldexp(8 + mantissa, exponent - 10);
}

// The nearest code, searched: to the even one in a tie, saturating.
uint8_t Nearest(double value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | 0x7f;
  const double size = std::min(std::abs(value), 448.0);
  uint8_t best = 0;
  for (uint8_t code = 1; code < 0x7f; ++code) {
    const double nearer = std::abs(Decoded(code) - size);
    const double so_far = std::abs(Decoded(best) - size);
    if (nearer < so_far || (nearer == so_far && code % 2 == 0)) best = code;
  }
  return sign | best;
}

float FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
uint32_t ToBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

TEST_CASE("every e4m3 code has the value of its definition", "[cuda]") {
  for (int code = 0; code < 256; ++code) {
    const auto byte = static_cast<uint8_t>(code);
    const float value = FromBits(DecodeE4m3(byte));
    CAPTURE(code);
    if ((code & 0x7f) == 0x7f) {
      CHECK(std::isnan(value));
      CHECK(std::signbit(value) == (code >= 0x80));
    } else {
      CHECK(static_cast<double>(value) == Decoded(byte));
      CHECK(std::signbit(value) == (code >= 0x80));
    }
    CHECK(EncodeE4m3(DecodeE4m3(byte)) == byte);
  }
}

TEST_CASE("an F32 becomes the nearest e4m3 code", "[cuda]") {
  Random random(Catch::rngSeed() + 1);
  const auto check = [](uint32_t bits) {
    const float value = FromBits(bits);
    CAPTURE(bits, value);
    const uint8_t expected =
        std::isnan(value) ? static_cast<uint8_t>((bits >> 24) & 0x80) | 0x7f
                          : Nearest(static_cast<double>(value));
    REQUIRE(EncodeE4m3(bits) == expected);
  };
  for (uint32_t top = 0; top < 65536; top += 3) check(top << 16);
  // The midpoints between codes, and their neighbours.
  for (int code = 0; code < 0x7e; ++code) {
    const double middle = (Decoded(static_cast<uint8_t>(code)) +
                           Decoded(static_cast<uint8_t>(code + 1))) /
                          2;
    const uint32_t bits = ToBits(static_cast<float>(middle));
    for (const uint32_t near : {bits - 1, bits, bits + 1}) {
      check(near);
      check(near | 0x80000000);
    }
  }
  for (int round = 0; round < 20000; ++round) {
    const auto exponent = static_cast<uint32_t>(112 + random() % 26);
    check(static_cast<uint32_t>(random() & 0x807fffff) | exponent << 23);
  }
}

// E4M3(x / scale) by the processor's division.
uint8_t ByDivision(uint32_t x, float scale) {
  const uint32_t quotient = ToBits(FromBits(x) / scale);
  const bool is_nan = (x & 0x7fffffff) > 0x7f800000;
  return EncodeE4m3(is_nan ? x : quotient);
}

// ScaleE4m3, or what is done where it may not be called.
uint8_t ByScale(uint32_t x, const BlockScale& by) {
  return by.divides ? DivideE4m3(x, by.scale) : ScaleE4m3(x, by);
}

// How many of `xs` become another code than by division; the last one that did.
template <typename Xs>
int Wrong(const Xs& xs, float scale, uint32_t& last) {
  const BlockScale by = PrepareScale(scale);
  int wrong = 0;
  for (const uint32_t x : xs) {
    if (ByScale(x, by) == ByDivision(x, scale)) continue;
    last = x;
    ++wrong;
  }
  return wrong;
}

// All scales that blocks can have: 2^-126 to F32's largest / 448.
float RandomScale(Random& random) {
  const uint64_t word = random();
  const auto exponent = static_cast<uint32_t>(1 + (word >> 32) % 246);
  const float scale = FromBits(exponent << 23 | (word & 0x7fffff));
  return std::min(scale, std::numeric_limits<float>::max() / 448.0f);
}

TEST_CASE("without a division elements get the same codes", "[cuda]") {
  Random random(Catch::rngSeed() + 4);
  constexpr int kElements = 256;
  std::vector<uint32_t> xs(kElements);
  uint32_t last = 0;
  for (int round = 0; round < 100'000; ++round) {
    const float scale = RandomScale(random);
    const int exponent = static_cast<int>(ToBits(scale) >> 23);
    for (uint32_t& x : xs) {
      const uint64_t word = random();
      x = static_cast<uint32_t>(word);
      if (round % 4 == 0) continue;  // any bits
      // Quotients of about 2^-12 to 2^12; every other a BF16.
      const int near = exponent - 12 + static_cast<int>((word >> 32) % 25);
      x = (x & 0x807fffff) | static_cast<uint32_t>(std::clamp(near, 0, 254))
                                 << 23;
      if ((word >> 63) != 0) x &= 0xffff0000;
    }
    CAPTURE(scale, last);
    REQUIRE(Wrong(xs, scale, last) == 0);
  }
}

// Where rounding turns: products of a scale and what lies between two codes.
TEST_CASE("without a division codes turn where they should", "[cuda]") {
  Random random(Catch::rngSeed() + 5);
  std::vector<uint32_t> xs;
  uint32_t last = 0;
  for (int round = 0; round < 10'000; ++round) {
    const float scale = RandomScale(random);
    xs.clear();
    for (int code = 0; code < 0x7f; ++code) {
      const double above =
          code == 0x7e ? 480 : Decoded(static_cast<uint8_t>(code + 1));
      const double middle = (Decoded(static_cast<uint8_t>(code)) + above) / 2;
      const uint32_t x =
          ToBits(static_cast<float>(middle * static_cast<double>(scale)));
      for (uint32_t apart = 0; apart < 7; ++apart) {
        if (x + apart >= 3) xs.push_back(x + apart - 3);
      }
    }
    CAPTURE(scale, last);
    REQUIRE(Wrong(xs, scale, last) == 0);
  }
}

TEST_CASE("without a division the extremes get the same codes", "[cuda]") {
  std::vector<uint32_t> xs;
  // All exponents with mantissas at their ends: zeros, denormals, infinities
  // and NaNs among them.
  for (uint32_t top = 0; top < 512; ++top) {
    for (const uint32_t mantissa :
         {0u, 1u, 2u, 0x3fffffu, 0x400000u, 0x400001u, 0x7ffffeu, 0x7fffffu}) {
      xs.push_back(top << 23 | mantissa);
    }
  }
  uint32_t last = 0;
  bool seen[2] = {};
  for (uint32_t exponent = 1; exponent <= 246; ++exponent) {
    for (const uint32_t mantissa :
         {0u, 1u, 0x124924u, 0x3fffffu, 0x400000u, 0x7ffffeu, 0x7fffffu}) {
      const float scale = FromBits(exponent << 23 | mantissa);
      seen[PrepareScale(scale).divides] = true;
      CAPTURE(scale, last);
      REQUIRE(Wrong(xs, scale, last) == 0);
    }
  }
  CHECK(seen[0]);
  CHECK(seen[1]);
  // Every BF16 and some scales that amax gives.
  xs.clear();
  for (uint32_t top = 0; top < 65536; ++top) xs.push_back(top << 16);
  for (uint32_t amax = 1; amax < 0x7f800000; amax += 12345678) {
    const float scale = ScaleInv(amax);
    CAPTURE(scale, last);
    REQUIRE(Wrong(xs, scale, last) == 0);
  }
}

struct Matrix {
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t block_rows = 0;
  int64_t block_cols = 0;
  int64_t row_elements = 0;  // with padding
  std::vector<float> plain;  // its values, one for each stored element
};

Matrix RandomMatrix(Random& random) {
  Matrix m;
  const bool grouped = random() % 2 == 0;
  m.rows = 1 + static_cast<int64_t>(random() % 70);
  m.cols = 1 + static_cast<int64_t>(random() % 200);
  m.block_rows = 1 + static_cast<int64_t>(random() % 32);
  m.block_cols = 1 + static_cast<int64_t>(random() % 64);
  if (random() % 8 == 0) {
    // About what a thread keeps in registers, and more.
    m.rows = m.block_rows = 128 + static_cast<int64_t>(random() % 2);
    m.cols = 300;
    m.block_cols = 128;
  }
  if (grouped) {
    m.cols = (m.cols + 7) / 8 * 8;
    m.block_cols = (m.block_cols + 7) / 8 * 8;
  }
  m.row_elements = m.cols + (grouped ? 8 : static_cast<int64_t>(random() % 5));
  m.plain.resize(static_cast<size_t>(m.rows * m.row_elements));
  std::normal_distribution<float> weights(0, 0.05f);
  // Of some the scales are out of the range without divisions.
  constexpr int kExtremes[] = {-122, -100, 110};
  const int exponent = random() % 4 == 0 ? kExtremes[random() % 3]
                                         : static_cast<int>(random() % 40) - 20;
  const float size = std::ldexp(1.0f, exponent);
  for (float& value : m.plain) {
    value = weights(random) * size;
    const uint64_t kind = random() % 400;
    if (kind == 0) value = std::numeric_limits<float>::infinity();
    if (kind == 1) value = -std::numeric_limits<float>::infinity();
    if (kind == 2) value = FromBits(0x7fc01234);
    if (kind == 3) value = FromBits(0xff800001);
    if (kind < 20 && kind > 10) value = -0.0f;
  }
  return m;
}

// Elements of `m` in memory, and their values after rounding to the type.
std::vector<uint64_t> Stored(Matrix& m, Element element) {
  const auto bytes = static_cast<size_t>(ByteSize(DTypeOf(element)));
  std::vector<uint64_t> memory(m.plain.size() * bytes / 8 + 2);
  auto* out = reinterpret_cast<std::byte*>(memory.data());
  const auto isa = copy_internal::Isa::kPortable;
  const auto narrow =
      copy_internal::FindCast(isa, DType::kF32, DTypeOf(element));
  const auto widen =
      copy_internal::FindCast(isa, DTypeOf(element), DType::kF32);
  for (size_t i = 0; i < m.plain.size(); ++i) {
    auto* value = reinterpret_cast<std::byte*>(&m.plain[i]);
    if (narrow == nullptr) {
      std::memcpy(out + i * 4, value, 4);
    } else {
      narrow(1, value, 4, out + i * bytes, 2);
      widen(1, out + i * bytes, 2, value, 4);
    }
  }
  return memory;
}

struct Quantised {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
};

// By the definition in fp8_math.h.
Quantised Expected(const Matrix& m, int64_t code_row, int64_t scale_row) {
  const int64_t blocks_down = (m.rows + m.block_rows - 1) / m.block_rows;
  Quantised q{
      std::vector<uint8_t>(static_cast<size_t>(m.rows * code_row), 0xab),
      std::vector<float>(static_cast<size_t>(blocks_down * scale_row), -7.0f)};
  std::vector<float> amax(q.scales.size(), 0.0f);
  const auto block_of = [&](int64_t row, int64_t col) {
    return static_cast<size_t>(row / m.block_rows * scale_row +
                               col / m.block_cols);
  };
  const auto at = [&](int64_t row, int64_t col) {
    return m.plain[static_cast<size_t>(row * m.row_elements + col)];
  };
  for (int64_t row = 0; row < m.rows; ++row) {
    for (int64_t col = 0; col < m.cols; ++col) {
      const float value = std::abs(at(row, col));
      float& most = amax[block_of(row, col)];
      if (std::isfinite(value)) most = std::max(most, value);
      q.scales[block_of(row, col)] = 0.0f;  // there is such a block
    }
  }
  for (size_t b = 0; b < amax.size(); ++b) {
    if (q.scales[b] != 0.0f) continue;
    q.scales[b] = amax[b] == 0 ? 1.0f : std::max(amax[b] / 448.0f, 0x1p-126f);
  }
  for (int64_t row = 0; row < m.rows; ++row) {
    for (int64_t col = 0; col < m.cols; ++col) {
      const float value = at(row, col);
      const float scaled = value / q.scales[block_of(row, col)];
      q.codes[static_cast<size_t>(row * code_row + col)] =
          std::isnan(value) ? (std::signbit(value) ? 0xff : 0x7f)
                            : Nearest(static_cast<double>(scaled));
    }
  }
  return q;
}

TEST_CASE("matrices are quantised and back as defined, within their bounds",
          "[cuda]") {
  Random random(Catch::rngSeed() + 2);
  bool seen_groups[2] = {};
  for (int round = 0; round < 45; ++round) {
    constexpr Element kElements[] = {Element::kF32, Element::kBF16,
                                     Element::kF16};
    const Element element = kElements[round % 3];
    const int64_t bytes = ByteSize(DTypeOf(element));
    Matrix m = RandomMatrix(random);
    const std::vector<uint64_t> memory = Stored(m, element);
    const int64_t code_row = m.row_elements;
    const int64_t scale_row = (m.cols + m.block_cols - 1) / m.block_cols + 1;
    const Quantised expected = Expected(m, code_row, scale_row);
    std::vector<uint64_t> codes((expected.codes.size() + 7) / 8,
                                0xabababababababab);
    std::vector<float> scales(expected.scales.size(), -7.0f);
    std::vector<uint64_t> back(memory.size(), 0xcdcdcdcdcdcdcdcd);
    QuantPlace place{
        .rows = m.rows,
        .cols = m.cols,
        .block_rows = m.block_rows,
        .block_cols = m.block_cols,
        .plain = reinterpret_cast<uintptr_t>(memory.data()),
        .plain_row = m.row_elements * bytes,
        .quantised = reinterpret_cast<uintptr_t>(codes.data()),
        .quantised_row = code_row,
        .scales = reinterpret_cast<uintptr_t>(scales.data()),
        .scale_row = scale_row * 4,
    };
    QuantList list;
    REQUIRE_OK(list.Add(place, element));
    seen_groups[list.matrices()[0].group_log2 != 0] = true;
    HostQuantise(list.Batch(list.matrices().data()), element);
    CHECK(scales == expected.scales);
    CHECK(std::memcmp(codes.data(), expected.codes.data(),
                      expected.codes.size()) == 0);

    place.plain = reinterpret_cast<uintptr_t>(back.data());
    QuantList undo;
    REQUIRE_OK(undo.Add(place, element));
    HostDequantise(undo.Batch(undo.matrices().data()), element);
    // Outside the matrix nothing was written; inside it is q * scale, rounded.
    const auto* got = reinterpret_cast<const std::byte*>(back.data());
    const auto isa = copy_internal::Isa::kPortable;
    const auto narrow =
        copy_internal::FindCast(isa, DType::kF32, DTypeOf(element));
    for (int64_t i = 0; i < m.rows * m.row_elements; ++i) {
      const int64_t row = i / m.row_elements;
      const int64_t col = i % m.row_elements;
      std::byte want[4] = {std::byte{0xcd}, std::byte{0xcd}, std::byte{0xcd},
                           std::byte{0xcd}};
      if (col < m.cols) {
        const uint8_t code =
            expected.codes[static_cast<size_t>(row * code_row + col)];
        const float scale = expected.scales[static_cast<size_t>(
            row / m.block_rows * scale_row + col / m.block_cols)];
        const float value =
            (code & 0x7f) == 0x7f
                ? FromBits((uint32_t{code} & 0x80) << 24 | 0x7fc00000)
                : static_cast<float>(Decoded(code)) * scale;
        const auto* raw = reinterpret_cast<const std::byte*>(&value);
        if (narrow == nullptr) {
          std::memcpy(want, raw, 4);
        } else {
          narrow(1, raw, 4, want, 2);
        }
      }
      CAPTURE(round, row, col);
      REQUIRE(std::memcmp(got + i * bytes, want, static_cast<size_t>(bytes)) ==
              0);
    }
  }
  CHECK(seen_groups[0]);
  CHECK(seen_groups[1]);
}

TEST_CASE("a list of matrices is one launch over all their blocks", "[cuda]") {
  Random random(Catch::rngSeed() + 3);
  std::vector<float> plain(20 * 40);
  for (float& value : plain) value = static_cast<float>(random() % 1000);
  std::vector<uint8_t> codes(plain.size());
  std::vector<float> scales(20, -1.0f);
  QuantList list;
  for (int64_t i = 0; i < 20; ++i) {
    REQUIRE_OK(list.Add(
        {.rows = 4,
         .cols = 10,
         .plain = reinterpret_cast<uintptr_t>(plain.data() + i * 40),
         .plain_row = 40,
         .quantised = reinterpret_cast<uintptr_t>(codes.data() + i * 40),
         .quantised_row = 10,
         .scales = reinterpret_cast<uintptr_t>(scales.data() + i),
         .scale_row = 4},
        Element::kF32));
  }
  CHECK(list.blocks() == 20);
  HostQuantise(list.Batch(list.matrices().data()), Element::kF32);
  for (int64_t i = 0; i < 20; ++i) {
    const float most =
        *std::max_element(plain.begin() + i * 40, plain.begin() + (i + 1) * 40);
    CHECK(scales[static_cast<size_t>(i)] == most / 448.0f);
  }
}

TEST_CASE("bad matrices are refused", "[cuda]") {
  QuantList list;
  const auto invalid = StatusIs(absl::StatusCode::kInvalidArgument);
  const QuantPlace good{.rows = 4,
                        .cols = 10,
                        .block_rows = 2,
                        .block_cols = 5,
                        .plain = 4096,
                        .plain_row = 40,
                        .quantised = 8192,
                        .quantised_row = 10,
                        .scales = 12288,
                        .scale_row = 8};
  const auto with = [&good](auto change) {
    QuantPlace place = good;
    change(place);
    return place;
  };
  CHECK_OK(list.Add(good, Element::kF32));
  CHECK_OK(list.Add(with([](QuantPlace& p) { p.rows = 0; }), Element::kF32));
  CHECK(list.blocks() == 4);
  CHECK_THAT(list.Add(good, Element::kF64),
             StatusIs(absl::StatusCode::kInvalidArgument, "F64"));
  const std::vector<QuantPlace> bad = {
      with([](QuantPlace& p) { p.rows = -1; }),
      with([](QuantPlace& p) { p.cols = int64_t{1} << 31; }),
      with([](QuantPlace& p) { p.block_rows = 0; }),
      with([](QuantPlace& p) { p.block_cols = int64_t{1} << 25; }),
      with([](QuantPlace& p) { p.plain_row = 36; }),
      with([](QuantPlace& p) { p.plain = 4097; }),
      with([](QuantPlace& p) { p.quantised_row = 9; }),
      with([](QuantPlace& p) { p.scale_row = 4; }),
      with([](QuantPlace& p) { p.scales = 12289; }),
  };
  for (const QuantPlace& place : bad) {
    CHECK_THAT(list.Add(place, Element::kF32), invalid);
  }
  CHECK(list.blocks() == 4);
}

}  // namespace
}  // namespace sluice::agent::cuda
