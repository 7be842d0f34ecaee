#include "agent/copy/cast_kernels.h"

#include <cstring>
#include <type_traits>

#include "agent/copy/cast_math.h"
#include "agent/copy/host_device.h"

#define SLUICE_INLINE SLUICE_ALWAYS_INLINE

#if defined(__x86_64__)
#define SLUICE_AVX2 __attribute__((target("avx2")))
#define SLUICE_AVX512 \
  __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl")))
#endif

namespace sluice::agent::copy_internal {
namespace {

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
