#include "common/dtype_conversion.h"

namespace sluice {
namespace {

bool IsFloat(DType dtype) {
  return dtype == DType::kF64 || dtype == DType::kF32 ||
         dtype == DType::kBF16 || dtype == DType::kF16;
}

// Types that a scale for each block brings into the range of F8_E4M3.
bool CanBeQuantised(DType dtype) {
  return IsFloat(dtype) && dtype != DType::kF64;
}

}  // namespace

bool Convertible(DType from, DType to) {
  if (from == to) return from != DType::kUnspecified;
  return (IsFloat(from) && IsFloat(to)) || Quantises(from, to);
}

bool Quantises(DType from, DType to) {
  return (from == DType::kF8E4M3 && CanBeQuantised(to)) ||
         (to == DType::kF8E4M3 && CanBeQuantised(from));
}

DType WireDType(DType from, DType to) {
  return ByteSize(from) < ByteSize(to) ? from : to;
}

}  // namespace sluice
