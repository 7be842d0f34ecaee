#include "agent/copy/cast_kernels.h"

#include <cstring>
#include <type_traits>

// Everything is inlined into the loops, which are compiled once per
// instruction set.
#define SLUICE_INLINE __attribute__((always_inline)) inline

#if defined(__x86_64__)
#define SLUICE_AVX2 __attribute__((target("avx2")))
#define SLUICE_AVX512 \
  __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl")))
#endif

namespace sluice::agent::copy_internal {
namespace {

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

SLUICE_INLINE float AsFloat(uint32_t bits) {
  return __builtin_bit_cast(float, bits);
}
SLUICE_INLINE uint32_t Bits(float value) {
  return __builtin_bit_cast(uint32_t, value);
}

// The payload of a NaN after its lower bits were cut off; not zero.
template <typename T>
SLUICE_INLINE T Payload(T kept, T top_bit) {
  return kept != 0 ? kept : top_bit;
}

SLUICE_INLINE void Cast(BF16 from, F32& to) {
  to.bits = uint32_t{from.bits} << 16;
}

SLUICE_INLINE void Cast(F16 from, F32& to) {
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

SLUICE_INLINE void Cast(F32 from, F64& to) {
  const uint32_t rest = from.bits & 0x7fffffff;
  const auto value =
      __builtin_bit_cast(uint64_t, static_cast<double>(AsFloat(from.bits)));
  // The processor would set the highest payload bit.
  const uint64_t nan = (uint64_t{from.bits & 0x80000000} << 32) | kInf64 |
                       (uint64_t{rest} << 29);
  to.bits = rest > kInf32 ? nan : value;
}

SLUICE_INLINE void Cast(F32 from, BF16& to) {
  const uint32_t bits = from.bits;
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const uint32_t nan =
      ((bits >> 16) & 0xff80) | Payload((bits >> 16) & 0x7fu, 0x40u);
  to.bits = static_cast<uint16_t>((bits & 0x7fffffff) > kInf32 ? nan : rounded);
}

SLUICE_INLINE void Cast(F32 from, F16& to) {
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
SLUICE_INLINE uint32_t NarrowNan(uint64_t bits) {
  return (static_cast<uint32_t>(bits >> 32) & 0x80000000) | kInf32 |
         Payload(static_cast<uint32_t>(bits >> 29) & 0x7fffffu, 0x400000u);
}

SLUICE_INLINE void Cast(F64 from, F32& to) {
  const auto value = __builtin_bit_cast(double, from.bits);
  const bool is_nan = (from.bits & ~(uint64_t{1} << 63)) > kInf64;
  to.bits = is_nan ? NarrowNan(from.bits) : Bits(static_cast<float>(value));
}

// The F32 towards zero, with its lowest bit set if that is not exact ("round to
// odd"): rounding that to a narrower type is rounding the F64.
SLUICE_INLINE F32 ToOdd(F64 from) {
  const auto value = __builtin_bit_cast(double, from.bits);
  const auto near = static_cast<float>(value);
  const auto back = __builtin_bit_cast(uint64_t, static_cast<double>(near));
  const uint64_t there = from.bits & ~(uint64_t{1} << 63);
  const uint64_t here = back & ~(uint64_t{1} << 63);
  const uint32_t truncated = Bits(near) - (here > there ? 1 : 0);
  const uint32_t odd = truncated | (here != there ? 1 : 0);
  return {there > kInf64 ? NarrowNan(from.bits) : odd};
}

SLUICE_INLINE void Cast(F64 from, BF16& to) { Cast(ToOdd(from), to); }
SLUICE_INLINE void Cast(F64 from, F16& to) { Cast(ToOdd(from), to); }

// F32 has all values of both types of 16 bits.
template <typename From, typename To>
SLUICE_INLINE void CastOverF32(From from, To& to) {
  F32 wide;
  Cast(from, wide);
  Cast(wide, to);
}
SLUICE_INLINE void Cast(F16 from, F64& to) { CastOverF32(from, to); }
SLUICE_INLINE void Cast(BF16 from, F64& to) { CastOverF32(from, to); }
SLUICE_INLINE void Cast(F16 from, BF16& to) { CastOverF32(from, to); }
SLUICE_INLINE void Cast(BF16 from, F16& to) { CastOverF32(from, to); }

template <typename From, typename To>
SLUICE_INLINE void CastOne(const std::byte* src, std::byte* dst) {
  From from;
  To to;
  std::memcpy(&from, src, sizeof(from));
  Cast(from, to);
  std::memcpy(dst, &to, sizeof(to));
}

template <typename From, typename To>
SLUICE_INLINE void CastAll(int64_t n, const std::byte* __restrict src,
                           int64_t src_stride, std::byte* __restrict dst,
                           int64_t dst_stride) {
  if (src_stride == sizeof(From) && dst_stride == sizeof(To)) {
    for (int64_t i = 0; i < n; ++i) {
      CastOne<From, To>(src + i * int64_t{sizeof(From)},
                        dst + i * int64_t{sizeof(To)});
    }
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    CastOne<From, To>(src + i * src_stride, dst + i * dst_stride);
  }
}

#define SLUICE_DEFINE_CAST(name, target)                                \
  template <typename From, typename To>                                 \
  target void name(int64_t n, const std::byte* src, int64_t src_stride, \
                   std::byte* dst, int64_t dst_stride) {                \
    CastAll<From, To>(n, src, src_stride, dst, dst_stride);             \
  }
SLUICE_DEFINE_CAST(CastPortable, )
#if defined(__x86_64__)
SLUICE_DEFINE_CAST(CastAvx2, SLUICE_AVX2)
SLUICE_DEFINE_CAST(CastAvx512, SLUICE_AVX512)
#endif
#undef SLUICE_DEFINE_CAST

#if defined(__x86_64__)
// What the loops need beyond what Isa::kAvx512 stands for.
bool HasAvx512() {
  return __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

template <typename From, typename To>
CastFunction Choose(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512 && HasAvx512()) return CastAvx512<From, To>;
  if (isa >= Isa::kAvx2) return CastAvx2<From, To>;
#endif
  static_cast<void>(isa);
  return CastPortable<From, To>;
}

template <typename From>
CastFunction ChooseFrom(Isa isa, DType to) {
  if constexpr (!std::is_same_v<From, F64>) {
    if (to == DType::kF64) return Choose<From, F64>(isa);
  }
  if constexpr (!std::is_same_v<From, F32>) {
    if (to == DType::kF32) return Choose<From, F32>(isa);
  }
  if constexpr (!std::is_same_v<From, F16>) {
    if (to == DType::kF16) return Choose<From, F16>(isa);
  }
  if constexpr (!std::is_same_v<From, BF16>) {
    if (to == DType::kBF16) return Choose<From, BF16>(isa);
  }
  return nullptr;
}

}  // namespace

CastFunction FindCast(Isa isa, DType from, DType to) {
  switch (from) {
    case DType::kF64:
      return ChooseFrom<F64>(isa, to);
    case DType::kF32:
      return ChooseFrom<F32>(isa, to);
    case DType::kF16:
      return ChooseFrom<F16>(isa, to);
    case DType::kBF16:
      return ChooseFrom<BF16>(isa, to);
    default:
      return nullptr;
  }
}

}  // namespace sluice::agent::copy_internal
