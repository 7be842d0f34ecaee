#include "common/dtype.h"

#include <array>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

struct Entry {
  DType dtype;
  int64_t bytes;
  const char* name;
  const char* torch_name;
};

constexpr std::array<Entry, 12> kEntries = {{
    {DType::kBool, 1, "BOOL", "bool"},
    {DType::kU8, 1, "U8", "uint8"},
    {DType::kI8, 1, "I8", "int8"},
    {DType::kI16, 2, "I16", "int16"},
    {DType::kI32, 4, "I32", "int32"},
    {DType::kI64, 8, "I64", "int64"},
    {DType::kF16, 2, "F16", "float16"},
    {DType::kBF16, 2, "BF16", "bfloat16"},
    {DType::kF32, 4, "F32", "float32"},
    {DType::kF64, 8, "F64", "float64"},
    {DType::kF8E4M3, 1, "F8_E4M3", "float8_e4m3fn"},
    {DType::kF8E5M2, 1, "F8_E5M2", "float8_e5m2"},
}};

}  // namespace

int64_t ByteSize(DType dtype) {
  for (const Entry& entry : kEntries) {
    if (entry.dtype == dtype) return entry.bytes;
  }
  return 0;
}

absl::string_view DTypeName(DType dtype) {
  for (const Entry& entry : kEntries) {
    if (entry.dtype == dtype) return entry.name;
  }
  return "UNSPECIFIED";
}

absl::StatusOr<DType> ParseDType(absl::string_view name) {
  for (const Entry& entry : kEntries) {
    if (name == entry.name || name == entry.torch_name) return entry.dtype;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown dtype \"", name,
                   "\": expected a safetensors name such as BF16, F32, I32"));
}

std::ostream& operator<<(std::ostream& os, DType dtype) {
  const absl::string_view name = DTypeName(dtype);
  return os.write(name.data(), static_cast<std::streamsize>(name.size()));
}

}  // namespace sluice
