#include "tests/property/float_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sluice::testing {
namespace {

struct Format {
  int precision = 0;     // bits of a normal number, the leading one included
  int min_exponent = 0;  // of the smallest normal number
  double largest = 0;
  bool has_infinity = true;
};

Format FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {24, -126, std::ldexp(2 - std::ldexp(1, -23), 127), true};
    case DType::kBF16:
      return {8, -126, std::ldexp(2 - std::ldexp(1, -7), 127), true};
    case DType::kF16:
      return {11, -14, 65504, true};
    case DType::kF8E4M3:
      return {4, -6, 448, false};
    default:
      return {};
  }
}

}  // namespace

double RoundedTo(DType dtype, double value) {
  const Format format = FormatOf(dtype);
  if (format.precision == 0 || std::isnan(value) || value == 0) return value;
  double rounded = value;
  if (std::isfinite(value)) {
    int exponent = 0;
    std::frexp(value, &exponent);  // |value| in [2^(exponent-1), 2^exponent)
    const int last_bit = std::max(exponent - format.precision,
                                  format.min_exponent - format.precision + 1);
    rounded =
        std::ldexp(std::nearbyint(std::ldexp(value, -last_bit)), last_bit);
  }
  if (std::abs(rounded) <= format.largest) return rounded;
  const double beyond = format.has_infinity
                            ? std::numeric_limits<double>::infinity()
                            : format.largest;
  return std::copysign(beyond, value);
}

bool SameValue(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return a == b && std::signbit(a) == std::signbit(b);
}

}  // namespace sluice::testing
