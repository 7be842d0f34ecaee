#ifndef SLUICE_COMMON_DTYPE_H_
#define SLUICE_COMMON_DTYPE_H_

// Element types of tensors, with their sizes and their names in safetensors
// headers. The numeric values equal those of sluice.v1.DType.

#include <cstdint>
#include <ostream>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice {

enum class DType : int {
  kUnspecified = 0,
  kBool = 1,
  kU8 = 2,
  kI8 = 3,
  kI16 = 4,
  kI32 = 5,
  kI64 = 6,
  kF16 = 7,
  kBF16 = 8,
  kF32 = 9,
  kF64 = 10,
  kF8E4M3 = 11,
  kF8E5M2 = 12,
};

// Returns the size of one element in bytes; 0 for kUnspecified.
int64_t ByteSize(DType dtype);

// Returns the safetensors name, such as "BF16"; "UNSPECIFIED" for none.
absl::string_view DTypeName(DType dtype);

// Parses a safetensors name (upper case) or a torch-like one ("bfloat16",
// "float32", "int32").
// Errors: INVALID_ARGUMENT - the name is unknown.
absl::StatusOr<DType> ParseDType(absl::string_view name);

std::ostream& operator<<(std::ostream& os, DType dtype);

}  // namespace sluice

#endif  // SLUICE_COMMON_DTYPE_H_
