#include "tests/fakes/nccl/fake_arithmetic.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace sluice::fake_nccl {
namespace {

using agent::NcclDataType;
using agent::NcclRedOp;

struct Float16 {
  uint16_t bits;
};
struct Bfloat16 {
  uint16_t bits;
};

template <typename T>
double Widen(T value) {
  return static_cast<double>(value);
}
double Widen(Bfloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}
double Widen(Float16 value) {
  const int exponent = (value.bits >> 10) & 31;
  const int fraction = value.bits & 1023;
  double magnitude = 0;
  if (exponent == 31) {
    magnitude = fraction == 0 ? std::numeric_limits<double>::infinity()
                              : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(fraction, -24);
  } else {
    magnitude = std::ldexp(1024 + fraction, exponent - 25);
  }
  return (value.bits >> 15) != 0 ? -magnitude : magnitude;
}

void Narrow(double value, double& to) { to = value; }
void Narrow(double value, float& to) { to = static_cast<float>(value); }
void Narrow(double value, Bfloat16& to) {
  const auto bits = std::bit_cast<uint32_t>(static_cast<float>(value));
  // To nearest, ties to even.
  to.bits = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  if (std::isnan(value)) to.bits = 0x7fc0;
}
void Narrow(double value, Float16& to) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  if (std::isnan(value)) {
    to.bits = 0x7e00;
  } else if (magnitude >= 65520) {
    to.bits = sign | 0x7c00;
  } else {
    // The unit of the last place at this size; nearbyint rounds to even.
    int exponent = -14;
    if (magnitude >= std::ldexp(1, -14)) exponent = std::ilogb(magnitude);
    const int units =
        static_cast<int>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
    to.bits = sign | static_cast<uint16_t>(((exponent + 14) << 10) + units);
  }
}

template <typename T>
void ReduceFloats(NcclRedOp op, size_t count,
                  const std::vector<const void*>& from, void* to) {
  for (size_t i = 0; i < count; ++i) {
    double sum = 0;
    for (const void* values : from) {
      sum += Widen(static_cast<const T*>(values)[i]);
    }
    if (op == NcclRedOp::kAvg) sum /= static_cast<double>(from.size());
    Narrow(sum, static_cast<T*>(to)[i]);
  }
}

template <typename T>
void ReduceInts(NcclRedOp op, size_t count,
                const std::vector<const void*>& from, void* to) {
  for (size_t i = 0; i < count; ++i) {
    // Unsigned: a sum that overflows wraps around.
    uint64_t sum = 0;
    for (const void* values : from) {
      sum += static_cast<uint64_t>(
          static_cast<int64_t>(static_cast<const T*>(values)[i]));
    }
    auto total = static_cast<int64_t>(sum);
    if (op == NcclRedOp::kAvg) total /= static_cast<int64_t>(from.size());
    static_cast<T*>(to)[i] = static_cast<T>(total);
  }
}

}  // namespace

size_t BytesOf(NcclDataType type) {
  switch (type) {
    case NcclDataType::kInt8:
    case NcclDataType::kUint8:
      return 1;
    case NcclDataType::kFloat16:
    case NcclDataType::kBfloat16:
      return 2;
    case NcclDataType::kInt32:
    case NcclDataType::kUint32:
    case NcclDataType::kFloat32:
      return 4;
    case NcclDataType::kInt64:
    case NcclDataType::kUint64:
    case NcclDataType::kFloat64:
      return 8;
  }
  return 0;
}

bool CanReduce(NcclDataType type, NcclRedOp op) {
  return BytesOf(type) != 0 && type != NcclDataType::kUint64 &&
         (op == NcclRedOp::kSum || op == NcclRedOp::kAvg);
}

void Reduce(NcclDataType type, NcclRedOp op, size_t count,
            const std::vector<const void*>& from, void* to) {
  switch (type) {
    case NcclDataType::kInt8:
      return ReduceInts<int8_t>(op, count, from, to);
    case NcclDataType::kUint8:
      return ReduceInts<uint8_t>(op, count, from, to);
    case NcclDataType::kInt32:
      return ReduceInts<int32_t>(op, count, from, to);
    case NcclDataType::kUint32:
      return ReduceInts<uint32_t>(op, count, from, to);
    case NcclDataType::kInt64:
      return ReduceInts<int64_t>(op, count, from, to);
    case NcclDataType::kUint64:
      return;
    case NcclDataType::kFloat16:
      return ReduceFloats<Float16>(op, count, from, to);
    case NcclDataType::kBfloat16:
      return ReduceFloats<Bfloat16>(op, count, from, to);
    case NcclDataType::kFloat32:
      return ReduceFloats<float>(op, count, from, to);
    case NcclDataType::kFloat64:
      return ReduceFloats<double>(op, count, from, to);
  }
}

}  // namespace sluice::fake_nccl
