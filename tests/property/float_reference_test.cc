// The judge of conversions on values known from the formats' definitions.

#include "tests/property/float_reference.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

namespace sluice::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST_CASE("values are rounded to the nearest, ties to even", "[property]") {
  // bf16 has 8 bits: between 256 and 512 it has even numbers only.
  CHECK(RoundedTo(DType::kBF16, 256) == 256);
  CHECK(RoundedTo(DType::kBF16, 257) == 256);
  CHECK(RoundedTo(DType::kBF16, 259) == 260);
  CHECK(RoundedTo(DType::kBF16, 257.001) == 258);
  // f16 has 11: between 2048 and 4096 even numbers.
  CHECK(RoundedTo(DType::kF16, -2049) == -2048);
  CHECK(RoundedTo(DType::kF16, -2051) == -2052);
  CHECK(RoundedTo(DType::kF16, 65519) == 65504);
  CHECK(RoundedTo(DType::kF16, 65520) == kInfinity);
  CHECK(RoundedTo(DType::kF16, std::ldexp(1, -24)) == std::ldexp(1, -24));
  CHECK(RoundedTo(DType::kF16, std::ldexp(1, -25)) == 0);
  // f8: 4 bits, 16 to 32 in steps of 2; subnormals in steps of 2^-9.
  CHECK(RoundedTo(DType::kF8E4M3, 17) == 16);
  CHECK(RoundedTo(DType::kF8E4M3, 19) == 20);
  CHECK(RoundedTo(DType::kF8E4M3, std::ldexp(3, -10)) == std::ldexp(1, -8));
  CHECK(RoundedTo(DType::kF8E4M3, 1e9) == 448);
  CHECK(RoundedTo(DType::kF8E4M3, -kInfinity) == -448);
  CHECK(RoundedTo(DType::kBF16, 1e300) == kInfinity);
  CHECK(std::isnan(RoundedTo(DType::kF8E4M3, std::nan(""))));
  CHECK(std::signbit(RoundedTo(DType::kF8E4M3, -0.0)));
  CHECK(RoundedTo(DType::kI16, 12345.5) == 12345.5);
}

TEST_CASE("the reference rounds to f32 as the machine does", "[property]") {
  std::mt19937_64 rng(Catch::rngSeed());
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t bits = rng();
    double value = 0;
    std::memcpy(&value, &bits, sizeof(value));
    CAPTURE(Catch::rngSeed(), i, value);
    // Half of them in f32's range and around its ends.
    if (i % 2 == 0) {
      value = std::ldexp(value / std::ldexp(1, std::ilogb(value)),
                         static_cast<int>(rng() % 300) - 160);
    }
    REQUIRE(SameValue(RoundedTo(DType::kF32, value),
                      static_cast<double>(static_cast<float>(value))));
  }
}

}  // namespace
}  // namespace sluice::testing
