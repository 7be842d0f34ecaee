#include "agent/collective/reduce_request.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

bool CanBeAdded(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 ||
         dtype == DType::kF16 || dtype == DType::kF64 || dtype == DType::kI32;
}

absl::StatusOr<CollectiveRange> Find(const ReduceTensor& tensor, int64_t numel,
                                     const FindMemory& find) {
  if (numel == 0) return CollectiveRange{};
  CollectiveRange range{find(tensor.memory), tensor.offset_bytes, numel};
  if (range.memory == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("memory ", tensor.memory, " was not lent to this group"));
  }
  const int64_t size = range.memory->size();
  const int64_t element = ByteSize(tensor.dtype);
  // Divided, because the product may overflow.
  if (tensor.offset_bytes < 0 || tensor.offset_bytes > size ||
      numel > (size - tensor.offset_bytes) / element) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected bytes inside the ", size, " of memory ",
                     tensor.memory, ", found ", numel, " elements of ", element,
                     " bytes at offset ", tensor.offset_bytes));
  }
  if (tensor.offset_bytes % element != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("offset_bytes: expected a multiple of ", element,
                     ", found ", tensor.offset_bytes));
  }
  return range;
}

bool Overlap(const CollectiveRange& a, const CollectiveRange& b,
             int64_t element) {
  return a.elements > 0 && a.memory == b.memory &&
         a.offset_bytes < b.offset_bytes + b.elements * element &&
         b.offset_bytes < a.offset_bytes + a.elements * element;
}

absl::Status CheckTypes(const ReduceScatterRequest& request, int members,
                        int64_t& numel) {
  std::vector<std::vector<int64_t>> shapes;
  std::vector<DType> dtypes;
  for (const ReduceTensor& input : request.inputs) {
    shapes.push_back(input.shape);
    dtypes.push_back(input.dtype);
  }
  SLUICE_ASSIGN_OR_RETURN(numel, CheckReduceInputs(shapes, dtypes, members));
  if (!CanBeAdded(dtypes[0])) {
    return absl::InvalidArgumentError(
        absl::StrCat("reduce-scatter: expected F32, BF16, F16, F64 or I32, "
                     "found ",
                     DTypeName(dtypes[0])));
  }
  if (request.output.shape == shapes[0] && request.output.dtype == dtypes[0]) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("reduce-scatter: output: expected ", DTypeName(dtypes[0]),
                   "[", absl::StrJoin(shapes[0], ","),
                   "] as the inputs, found ", DTypeName(request.output.dtype),
                   "[", absl::StrJoin(request.output.shape, ","), "]"));
}

}  // namespace

absl::StatusOr<ResolvedReduce> ResolveReduce(
    const ReduceScatterRequest& request, int members, int self,
    const FindMemory& find) {
  ResolvedReduce out;
  SLUICE_RETURN_IF_ERROR(CheckTypes(request, members, out.numel));
  out.dtype = request.output.dtype;
  out.shape = request.output.shape;
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    absl::StatusOr<CollectiveRange> range =
        Find(request.inputs[i], out.numel, find);
    if (!range.ok()) {
      return Annotate(range.status(),
                      absl::StrCat("reduce-scatter: input ", i));
    }
    out.inputs.push_back(*std::move(range));
  }
  absl::StatusOr<CollectiveRange> output =
      Find(request.output, out.numel, find);
  if (!output.ok()) {
    return Annotate(output.status(), "reduce-scatter: output");
  }
  out.output = *std::move(output);
  for (size_t i = 0; i < out.inputs.size(); ++i) {
    const CollectiveRange& input = out.inputs[i];
    if (!Overlap(input, out.output, ByteSize(out.dtype))) continue;
    const bool is_own = i == static_cast<size_t>(self) &&
                        input.offset_bytes == out.output.offset_bytes;
    if (is_own) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "reduce-scatter: output: expected memory of its own or that of input ",
        self, ", found an overlap with input ", i));
  }
  return out;
}

}  // namespace sluice::agent
