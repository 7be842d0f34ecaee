#ifndef SLUICE_AGENT_CUDA_FP8_MATH_H_
#define SLUICE_AGENT_CUDA_FP8_MATH_H_

// F8_E4M3 with a scale for each block of a matrix.
//
// The type is OCP's E4M3 ("float8_e4m3fn"): a sign, 4 bits of exponent with
// bias 7, 3 of mantissa; no infinities; 0x7f and 0xff are NaN; the largest
// finite value is 448 (0x7e), the smallest above zero 2^-9.
//
// A block's scale is
//   scale_inv = amax / 448   in F32, where amax is the largest magnitude of the
//               block's finite elements; at least 2^-126; 1 where amax is 0.
// An element x is quantised, as F32, to
//   q = E4M3(x / scale_inv)  rounded to nearest, to even in a tie; magnitudes
//               above 448 and infinities become 448 with their sign; a NaN
//               becomes the NaN of its sign; zeros keep their sign.
// and dequantised to T(F32(q) * scale_inv), T as agent/copy/cast_kernels.h
// rounds; the F32 NaN of 0x7f is 0x7fc00000.

#include <cmath>
#include <cstdint>

#include "agent/copy/cast_math.h"
#include "agent/copy/host_device.h"

namespace sluice::agent::cuda {

inline constexpr float kE4m3Max = 448.0f;

// The quotients' scale of a block, prepared: dividing by the same number again
// and again takes a reciprocal and fused multiply-adds.
//
// With r = 1 / scale and e = (1 - r * scale) * r, each rounded once, r + e is
// 1 / scale to about 2^-47, so x * r + x * e, rounded once (`near` below), is
// within one unit in the last place of x / scale. Then x - near * scale is
// exact, and near + that * r, rounded, is x / scale as the processor's division
// rounds it (Markstein). It is so as long as no product leaves F32's range: for
// scales between the two below, and quotients of at least 2^-11. Smaller ones
// may be a little off: they become 0 in any case.
struct BlockScale {
  float scale = 1.0f;
  float reciprocal = 1.0f;
  float error = 0.0f;
  float most = 512.0f;   // 512 * scale: what is larger becomes 448 as well
  bool divides = false;  // the scale is out of the range
};

SLUICE_HOST_DEVICE SLUICE_ALWAYS_INLINE BlockScale PrepareScale(float scale) {
  constexpr uint32_t kLeast = (127u - 90) << 23;  // 2^-90
  constexpr uint32_t kMost = (127u + 100) << 23;  // 2^100
  BlockScale prepared;
  prepared.scale = scale;
  prepared.reciprocal = 1.0f / scale;
  prepared.error =
      fmaf(-prepared.reciprocal, scale, 1.0f) * prepared.reciprocal;
  prepared.most = 512.0f * scale;
  const uint32_t bits = copy_internal::Bits(scale);
  prepared.divides = bits < kLeast || bits > kMost;
  return prepared;
}

// Quantises one F32, given by its bits, that is already scaled.
SLUICE_HOST_DEVICE SLUICE_ALWAYS_INLINE uint8_t EncodeE4m3(uint32_t bits) {
  const uint32_t sign = (bits >> 24) & 0x80;
  const uint32_t rest = bits & 0x7fffffff;
  // With the exponent moved to the smaller bias, rounding carries into it.
  const uint32_t moved = rest - (120u << 23);
  const uint32_t rounded = (moved + 0x7ffff + ((moved >> 20) & 1)) >> 20;
  const uint32_t normal = rounded < 0x7e ? rounded : 0x7e;
  // Beside 2^14 neighbours lie 2^-9 apart, as below the normal ones: the
  // processor's addition rounds.
  const uint32_t small =
      copy_internal::Bits(copy_internal::AsFloat(rest) + 16384.0f) -
      copy_internal::Bits(16384.0f);
  const uint32_t finite = rest < (121u << 23) ? small : normal;
  return static_cast<uint8_t>(sign |
                              (rest > copy_internal::kInf32 ? 0x7f : finite));
}

// Quantises one F32, given by its bits, by the definition above.
SLUICE_HOST_DEVICE SLUICE_ALWAYS_INLINE uint8_t DivideE4m3(uint32_t bits,
                                                           float scale) {
  const float value = copy_internal::AsFloat(bits) / scale;
  // A quotient of a NaN is one too, but its sign is the processor's choice.
  const bool is_nan = (bits & 0x7fffffff) > copy_internal::kInf32;
  return EncodeE4m3(is_nan ? bits : copy_internal::Bits(value));
}

// The same without a division. Requires a scale that does not divide.
SLUICE_HOST_DEVICE SLUICE_ALWAYS_INLINE uint8_t
ScaleE4m3(uint32_t bits, const BlockScale& by) {
  const uint32_t rest = bits & 0x7fffffff;
  // Infinities and NaNs too: magnitudes order as their bits do.
  const uint32_t most = copy_internal::Bits(by.most);
  const float value = copy_internal::AsFloat(rest < most ? rest : most);
  const float near = fmaf(value, by.reciprocal, value * by.error);
  const float quotient =
      fmaf(fmaf(-near, by.scale, value), by.reciprocal, near);
  const uint8_t code = EncodeE4m3(copy_internal::Bits(quotient));
  const uint32_t sign = (bits >> 24) & 0x80;
  return static_cast<uint8_t>(sign |
                              (rest > copy_internal::kInf32 ? 0x7f : code));
}

// Returns the bits of the F32 of the same value.
SLUICE_HOST_DEVICE SLUICE_ALWAYS_INLINE uint32_t DecodeE4m3(uint8_t code) {
  const uint32_t sign = (uint32_t{code} & 0x80) << 24;
  const uint32_t rest = code & 0x7f;
  const uint32_t normal = (rest << 20) + (120u << 23);
  const uint32_t small =
      copy_internal::Bits(static_cast<float>(static_cast<int32_t>(rest)) *
                          copy_internal::AsFloat((127u - 9) << 23));
  const uint32_t finite = rest < 8 ? small : normal;
  return sign | (rest == 0x7f ? 0x7fc00000 : finite);
}

// The magnitude of an F32's bits that counts for a block's amax: magnitudes
// order as their bits do.
SLUICE_HOST_DEVICE SLUICE_ALWAYS_INLINE uint32_t AmaxBits(uint32_t bits) {
  const uint32_t rest = bits & 0x7fffffff;
  return rest < copy_internal::kInf32 ? rest : 0;
}

// The scale of a block whose amax has these bits.
SLUICE_HOST_DEVICE SLUICE_ALWAYS_INLINE float ScaleInv(uint32_t amax_bits) {
  if (amax_bits == 0) return 1.0f;
  const float scale = copy_internal::AsFloat(amax_bits) / kE4m3Max;
  const float least = copy_internal::AsFloat(1u << 23);  // 2^-126
  return scale > least ? scale : least;
}

}  // namespace sluice::agent::cuda

#endif  // SLUICE_AGENT_CUDA_FP8_MATH_H_
