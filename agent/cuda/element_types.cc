#include "agent/cuda/element_types.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace sluice::agent::cuda {

DType DTypeOf(Element element) {
  switch (element) {
    case Element::kF64:
      return DType::kF64;
    case Element::kF32:
      return DType::kF32;
    case Element::kBF16:
      return DType::kBF16;
    case Element::kF16:
      return DType::kF16;
  }
  return DType::kUnspecified;
}

absl::StatusOr<Element> ElementOf(DType dtype) {
  for (const Element element :
       {Element::kF64, Element::kF32, Element::kBF16, Element::kF16}) {
    if (DTypeOf(element) == dtype) return element;
  }
  return absl::UnimplementedError(absl::StrCat(
      "a GPU casts F64, F32, BF16 and F16, not ", DTypeName(dtype)));
}

}  // namespace sluice::agent::cuda
