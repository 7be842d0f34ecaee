#include "agent/collective/reduce_kernels.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "common/check.h"

// Everything is inlined into the loops, which are compiled once per
// instruction set.
#define SLUICE_INLINE __attribute__((always_inline)) inline

#if defined(__x86_64__)
#include <cpuid.h>
#define SLUICE_AVX2 __attribute__((target("avx2,f16c")))
#define SLUICE_AVX512 \
  __attribute__((target("avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")))
#endif

namespace sluice::agent {
namespace {

using copy_internal::Isa;

// Accumulators of one tile stay in the nearest cache while the inputs pass.
constexpr int64_t kTile = 1024;

SLUICE_INLINE float AsFloat(uint32_t bits) {
  return __builtin_bit_cast(float, bits);
}
SLUICE_INLINE uint32_t Bits(float value) {
  return __builtin_bit_cast(uint32_t, value);
}

// Elements as they lie in memory, their accumulators, and the way between.
struct F32 {
  using Stored = float;
  using Acc = float;
  static SLUICE_INLINE Acc Load(Stored v) { return v; }
  static SLUICE_INLINE Stored Store(Acc v) { return v; }
};
struct F64 {
  using Stored = double;
  using Acc = double;
  static SLUICE_INLINE Acc Load(Stored v) { return v; }
  static SLUICE_INLINE Stored Store(Acc v) { return v; }
};
// Unsigned, because sums wrap.
struct I32 {
  using Stored = uint32_t;
  using Acc = uint32_t;
  static SLUICE_INLINE Acc Load(Stored v) { return v; }
  static SLUICE_INLINE Stored Store(Acc v) { return v; }
};
struct BF16 {
  using Stored = uint16_t;
  using Acc = float;
  static SLUICE_INLINE Acc Load(Stored v) { return AsFloat(uint32_t{v} << 16); }
  static SLUICE_INLINE Stored Store(Acc v) {
    const uint32_t bits = Bits(v);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const uint32_t nan = (bits >> 16) | 0x40;
    return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? nan
                                                                  : rounded);
  }
};
// As agent/copy/cast_kernels.cc.
struct F16 {
  using Stored = uint16_t;
  using Acc = float;
  static SLUICE_INLINE Acc Load(Stored v) {
    const uint32_t sign = (uint32_t{v} & 0x8000) << 16;
    const uint32_t rest = v & 0x7fffu;
    const uint32_t normal = (rest << 13) + (112u << 23);
    const uint32_t small = Bits(static_cast<float>(static_cast<int32_t>(rest)) *
                                AsFloat((127u - 24) << 23));
    const uint32_t special = (rest << 13) | 0x7f800000;
    const uint32_t finite = rest < 0x0400 ? small : normal;
    return AsFloat(sign | (rest >= 0x7c00 ? special : finite));
  }
  static SLUICE_INLINE Stored Store(Acc v) {
    const uint32_t bits = Bits(v);
    const uint32_t sign = (bits >> 16) & 0x8000;
    const uint32_t rest = bits & 0x7fffffff;
    const uint32_t moved = rest - (112u << 23);
    const uint32_t rounded = (moved + 0xfff + ((moved >> 13) & 1)) >> 13;
    const uint32_t normal = rounded < 0x7c00 ? rounded : 0x7c00;
    const uint32_t small = Bits(AsFloat(rest) + 0.5f) - Bits(0.5f);
    const uint32_t nan = 0x7e00 | ((rest >> 13) & 0x3ff);
    const uint32_t finite = rest < (113u << 23) ? small : normal;
    return static_cast<uint16_t>(sign | (rest > 0x7f800000 ? nan : finite));
  }
};

// Accumulators read as they are.
template <typename T>
struct Partial {
  using Stored = typename T::Acc;
  using Acc = typename T::Acc;
  static SLUICE_INLINE Acc Load(Stored v) { return v; }
};

template <typename T>
const typename T::Stored* At(const ReduceInput& input, int64_t element) {
  return reinterpret_cast<const typename T::Stored*>(input.data) + element;
}

// Several at a time: fewer passes over the accumulators, and the processor
// fetches from all of them at once.
template <typename In, int kCount>
SLUICE_INLINE void AddMany(typename In::Acc* acc, const ReduceInput* inputs,
                           int64_t start, int64_t n, bool first) {
  const typename In::Stored* from[kCount];
  for (int k = 0; k < kCount; ++k) from[k] = At<In>(inputs[k], start);
  for (int64_t i = 0; i < n; ++i) {
    typename In::Acc sum = In::Load(from[0][i]);
    if (!first) sum = acc[i] + sum;
#pragma GCC unroll 8
    for (int k = 1; k < kCount; ++k) sum = sum + In::Load(from[k][i]);
    acc[i] = sum;
  }
}

template <typename In, int kCount>
SLUICE_INLINE void AddInputs(typename In::Acc* acc, const ReduceInput* inputs,
                             int64_t start, int64_t n, bool first) {
  // Two loops: what is the same for all elements is not asked for each.
  if (first) {
    AddMany<In, kCount>(acc, inputs, start, n, true);
  } else {
    AddMany<In, kCount>(acc, inputs, start, n, false);
  }
}

// Inputs from `i` on, up to eight, that hold elements.
inline int ElementsFrom(absl::Span<const ReduceInput> inputs, size_t i) {
  int count = 0;
  while (count < 8 && i < inputs.size() && !inputs[i].accumulators) {
    ++count, ++i;
  }
  return count;
}

template <typename T>
SLUICE_INLINE void AddAll(typename T::Acc* acc, int64_t start, int64_t n,
                          absl::Span<const ReduceInput> inputs) {
  size_t i = 0;
  while (i < inputs.size()) {
    const ReduceInput* from = &inputs[i];
    const int elements = ElementsFrom(inputs, i);
    const bool first = i == 0;
    if (elements == 8) {
      AddInputs<T, 8>(acc, from, start, n, first);
      i += 8;
    } else if (elements >= 4) {
      AddInputs<T, 4>(acc, from, start, n, first);
      i += 4;
    } else if (elements >= 2) {
      AddInputs<T, 2>(acc, from, start, n, first);
      i += 2;
    } else if (elements == 1) {
      AddInputs<T, 1>(acc, from, start, n, first);
      ++i;
    } else {
      AddInputs<Partial<T>, 1>(acc, from, start, n, first);
      ++i;
    }
  }
}

template <typename Acc>
SLUICE_INLINE void Divide(Acc* acc, int64_t n, int32_t divisor) {
  if constexpr (std::is_same_v<Acc, uint32_t>) {
    for (int64_t i = 0; i < n; ++i) {
      acc[i] = static_cast<uint32_t>(static_cast<int32_t>(acc[i]) / divisor);
    }
  } else {
    const auto by = static_cast<Acc>(divisor);
    for (int64_t i = 0; i < n; ++i) acc[i] = acc[i] / by;
  }
}

// Copies a finished tile out, past the caches where that is asked for.
template <typename Stored>
SLUICE_INLINE void CopyOut(Isa isa, const Reduction& r, int64_t start,
                           const Stored* tile, int64_t n) {
  copy_internal::Rows rows;
  rows.src = reinterpret_cast<const std::byte*>(tile);
  rows.dst = r.out + start * int64_t{sizeof(Stored)};
  rows.count = 1;
  rows.bytes = n * int64_t{sizeof(Stored)};
  copy_internal::CopyRows(isa, rows, r.streaming);
}

template <typename T>
SLUICE_INLINE void ReduceAll(Isa isa, const Reduction& r,
                             absl::Span<const ReduceInput> inputs) {
  using Acc = typename T::Acc;
  using Stored = typename T::Stored;
  alignas(64) Acc acc[kTile];
  alignas(64) Stored out[kTile];
  for (int64_t start = 0; start < r.elements; start += kTile) {
    const int64_t n = std::min(kTile, r.elements - start);
    AddAll<T>(acc, start, n, inputs);
    if (r.out_accumulators) {
      CopyOut(isa, r, start, acc, n);
      continue;
    }
    if (r.divisor != 1) Divide(acc, n, r.divisor);
    if constexpr (std::is_same_v<Acc, Stored>) {
      CopyOut(isa, r, start, acc, n);
    } else {
      for (int64_t i = 0; i < n; ++i) out[i] = T::Store(acc[i]);
      CopyOut(isa, r, start, out, n);
    }
  }
}

#define SLUICE_DEFINE_REDUCE(name, target)                 \
  template <typename T>                                    \
  target void name(Isa isa, const Reduction& r,            \
                   absl::Span<const ReduceInput> inputs) { \
    ReduceAll<T>(isa, r, inputs);                          \
  }
SLUICE_DEFINE_REDUCE(ReducePortable, )
#if defined(__x86_64__)
SLUICE_DEFINE_REDUCE(ReduceAvx2, SLUICE_AVX2)
SLUICE_DEFINE_REDUCE(ReduceAvx512, SLUICE_AVX512)

// What the loops need beyond what an Isa stands for.
bool HasF16c() {
  // clang 14 knows no such name to ask its builtin for.
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
bool HasAvx512() {
  return HasF16c() && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#endif
#undef SLUICE_DEFINE_REDUCE

template <typename T>
void Choose(Isa isa, const Reduction& r, absl::Span<const ReduceInput> inputs) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512 && HasAvx512())
    return ReduceAvx512<T>(isa, r, inputs);
  if (isa >= Isa::kAvx2 && HasF16c()) return ReduceAvx2<T>(isa, r, inputs);
#endif
  ReducePortable<T>(isa, r, inputs);
}

}  // namespace

bool CanReduce(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 ||
         dtype == DType::kF16 || dtype == DType::kF64 || dtype == DType::kI32;
}

int64_t AccumulatorBytes(DType dtype) { return dtype == DType::kF64 ? 8 : 4; }

void Reduce(Isa isa, const Reduction& reduction,
            absl::Span<const ReduceInput> inputs) {
  SLUICE_CHECK(!inputs.empty()) << "a reduction of nothing";
  switch (reduction.dtype) {
    case DType::kF32:
      return Choose<F32>(isa, reduction, inputs);
    case DType::kF64:
      return Choose<F64>(isa, reduction, inputs);
    case DType::kBF16:
      return Choose<BF16>(isa, reduction, inputs);
    case DType::kF16:
      return Choose<F16>(isa, reduction, inputs);
    case DType::kI32:
      return Choose<I32>(isa, reduction, inputs);
    default:
      SLUICE_CHECK(false) << "no sums of " << DTypeName(reduction.dtype);
  }
}

}  // namespace sluice::agent
