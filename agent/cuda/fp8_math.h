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

#include <cstdint>

#include "agent/copy/cast_math.h"
#include "agent/copy/host_device.h"

namespace sluice::agent::cuda {

inline constexpr float kE4m3Max = 448.0f;

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
