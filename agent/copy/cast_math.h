#ifndef SLUICE_AGENT_COPY_CAST_MATH_H_
#define SLUICE_AGENT_COPY_CAST_MATH_H_

// The casts between F64, F32, F16 and BF16 of one element, as arithmetic on
// bits: one source for the host's vector loops and the CUDA kernels. What they
// give is documented in cast_kernels.h.

#include <cstdint>

#include "agent/copy/host_device.h"

// Everything is inlined into the loops, which are compiled once per instruction
// set.
#define SLUICE_CAST_FUNCTION SLUICE_HOST_DEVICE SLUICE_ALWAYS_INLINE

namespace sluice::agent::copy_internal {

// The types as their bits, without branches: a selection becomes a blend.
struct F64 {
  uint64_t bits;
};
struct F32 {
  uint32_t bits;
};
struct F16 {
  uint16_t bits;
};
struct BF16 {
  uint16_t bits;
};

constexpr uint32_t kInf32 = 0x7f800000;
constexpr uint64_t kInf64 = 0x7ff0000000000000;

SLUICE_CAST_FUNCTION float AsFloat(uint32_t bits) {
  return __builtin_bit_cast(float, bits);
}
SLUICE_CAST_FUNCTION uint32_t Bits(float value) {
  return __builtin_bit_cast(uint32_t, value);
}

// The payload of a NaN after its lower bits were cut off; not zero.
template <typename T>
SLUICE_CAST_FUNCTION T Payload(T kept, T top_bit) {
  return kept != 0 ? kept : top_bit;
}

SLUICE_CAST_FUNCTION void Cast(BF16 from, F32& to) {
  to.bits = uint32_t{from.bits} << 16;
}

SLUICE_CAST_FUNCTION void Cast(F16 from, F32& to) {
  const uint32_t sign = (uint32_t{from.bits} & 0x8000) << 16;
  const uint32_t rest = from.bits & 0x7fff;
  // The exponents' biases are 15 and 127.
  const uint32_t normal = (rest << 13) + (112u << 23);
  // Below the normal ones a value is a multiple of 2^-24; exact in F32.
  const uint32_t small = Bits(static_cast<float>(static_cast<int32_t>(rest)) *
                              AsFloat((127u - 24) << 23));
  const uint32_t special = (rest << 13) | kInf32;
  const uint32_t finite = rest < 0x0400 ? small : normal;
  to.bits = sign | (rest >= 0x7c00 ? special : finite);
}

SLUICE_CAST_FUNCTION void Cast(F32 from, F64& to) {
  const uint32_t rest = from.bits & 0x7fffffff;
  const auto value =
      __builtin_bit_cast(uint64_t, static_cast<double>(AsFloat(from.bits)));
  // The processor would set the highest payload bit.
  const uint64_t nan = (uint64_t{from.bits & 0x80000000} << 32) | kInf64 |
                       (uint64_t{rest} << 29);
  to.bits = rest > kInf32 ? nan : value;
}

SLUICE_CAST_FUNCTION void Cast(F32 from, BF16& to) {
  const uint32_t bits = from.bits;
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const uint32_t nan =
      ((bits >> 16) & 0xff80) | Payload((bits >> 16) & 0x7fu, 0x40u);
  to.bits = static_cast<uint16_t>((bits & 0x7fffffff) > kInf32 ? nan : rounded);
}

SLUICE_CAST_FUNCTION void Cast(F32 from, F16& to) {
  const uint32_t sign = (from.bits >> 16) & 0x8000;
  const uint32_t rest = from.bits & 0x7fffffff;
  // With the exponent moved to F16's bias, rounding carries into it; what is
  // too large is cut to infinity.
  const uint32_t moved = rest - (112u << 23);
  const uint32_t rounded = (moved + 0xfff + ((moved >> 13) & 1)) >> 13;
  const uint32_t normal = rounded < 0x7c00 ? rounded : 0x7c00;
  // Beside 0.5 the neighbours lie 2^-24 apart, as F16's below its normal ones:
  // the processor's addition rounds.
  const uint32_t small = Bits(AsFloat(rest) + 0.5f) - Bits(0.5f);
  const uint32_t nan = 0x7c00 | Payload((rest >> 13) & 0x3ffu, 0x200u);
  const uint32_t finite = rest < (113u << 23) ? small : normal;
  to.bits = static_cast<uint16_t>(sign | (rest > kInf32 ? nan : finite));
}

// The NaN with the same sign and the payload's top bits.
SLUICE_CAST_FUNCTION uint32_t NarrowNan(uint64_t bits) {
  return (static_cast<uint32_t>(bits >> 32) & 0x80000000) | kInf32 |
         Payload(static_cast<uint32_t>(bits >> 29) & 0x7fffffu, 0x400000u);
}

SLUICE_CAST_FUNCTION void Cast(F64 from, F32& to) {
  const auto value = __builtin_bit_cast(double, from.bits);
  const bool is_nan = (from.bits & ~(uint64_t{1} << 63)) > kInf64;
  to.bits = is_nan ? NarrowNan(from.bits) : Bits(static_cast<float>(value));
}

// The F32 towards zero, with its lowest bit set if that is not exact ("round to
// odd"): rounding that to a narrower type is rounding the F64.
SLUICE_CAST_FUNCTION F32 ToOdd(F64 from) {
  const auto value = __builtin_bit_cast(double, from.bits);
  const auto near = static_cast<float>(value);
  const auto back = __builtin_bit_cast(uint64_t, static_cast<double>(near));
  const uint64_t there = from.bits & ~(uint64_t{1} << 63);
  const uint64_t here = back & ~(uint64_t{1} << 63);
  const uint32_t truncated = Bits(near) - (here > there ? 1 : 0);
  const uint32_t odd = truncated | (here != there ? 1 : 0);
  return {there > kInf64 ? NarrowNan(from.bits) : odd};
}

SLUICE_CAST_FUNCTION void Cast(F64 from, BF16& to) { Cast(ToOdd(from), to); }
SLUICE_CAST_FUNCTION void Cast(F64 from, F16& to) { Cast(ToOdd(from), to); }

// F32 has all values of both types of 16 bits.
template <typename From, typename To>
SLUICE_CAST_FUNCTION void CastOverF32(From from, To& to) {
  F32 wide;
  Cast(from, wide);
  Cast(wide, to);
}
SLUICE_CAST_FUNCTION void Cast(F16 from, F64& to) { CastOverF32(from, to); }
SLUICE_CAST_FUNCTION void Cast(BF16 from, F64& to) { CastOverF32(from, to); }
SLUICE_CAST_FUNCTION void Cast(F16 from, BF16& to) { CastOverF32(from, to); }
SLUICE_CAST_FUNCTION void Cast(BF16 from, F16& to) { CastOverF32(from, to); }

}  // namespace sluice::agent::copy_internal

#endif  // SLUICE_AGENT_COPY_CAST_MATH_H_
