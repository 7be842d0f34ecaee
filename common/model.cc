#include "common/model.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sluice {
namespace {

// Sums with padding and products with ranks stay far from overflowing.
constexpr int64_t kMaxModelBytes = int64_t{1} << 60;

}  // namespace

int64_t ModelSpec::num_bytes() const {
  int64_t bytes = 0;
  for (const TensorSpec& tensor : tensors) bytes += tensor.num_bytes();
  return bytes;
}

absl::Status ModelSpec::Validate() const {
  if (name.empty()) return absl::InvalidArgumentError("model without a name");
  if (tensors.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("model \"", name, "\" has no tensor"));
  }
  absl::flat_hash_set<absl::string_view> names;
  names.reserve(tensors.size());
  int64_t total = 0;
  for (const TensorSpec& tensor : tensors) {
    if (tensor.name.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("model \"", name, "\": tensor without a name"));
    }
    if (!names.insert(tensor.name).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          "model \"", name, "\": tensor \"", tensor.name, "\" given twice"));
    }
    if (ByteSize(tensor.dtype) == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor \"", tensor.name, "\": dtype is unspecified or unknown"));
    }
    const std::optional<int64_t> elements = NumElements(tensor.shape);
    int64_t bytes = 0;
    if (!elements.has_value() ||
        __builtin_mul_overflow(*elements, ByteSize(tensor.dtype), &bytes) ||
        __builtin_add_overflow(total, bytes, &total) ||
        total > kMaxModelBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor \"", tensor.name, "\": shape is negative or overflows"));
    }
    if (!tensor.block.empty() &&
        (tensor.block.size() != tensor.shape.size() ||
         *std::min_element(tensor.block.begin(), tensor.block.end()) < 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor \"", tensor.name, "\": quantisation block [",
                       absl::StrJoin(tensor.block, ","), "]: expected ",
                       tensor.shape.size(), " sizes of 1 or more"));
    }
  }
  for (const auto& [alias, canonical] : aliases) {
    if (!names.contains(canonical) || names.contains(alias)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "alias \"", alias, "\" of \"", canonical,
          "\": the latter must be a tensor of the model, the former none"));
    }
  }
  return absl::OkStatus();
}

void PackParams(RankLayout& layout) {
  int64_t offset = 0;
  for (LocalParam& param : layout.params) {
    param.offset_bytes = offset;
    offset += (param.num_bytes() + kParamAlignment - 1) / kParamAlignment *
              kParamAlignment;
  }
  layout.buffer_bytes = offset;
}

}  // namespace sluice
