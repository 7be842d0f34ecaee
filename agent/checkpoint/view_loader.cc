#include "agent/checkpoint/view_loader.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/copy/box_copy.h"
#include "agent/copy/strided_place.h"
#include "common/dtype_conversion.h"
#include "common/status_macros.h"

namespace sluice::agent {
namespace {

// One view, ready to be copied.
struct Job {
  const Checkpoint::Tensor* tensor;
  absl::Span<const uint8_t> touched;  // from the view's first to its last byte
  BoxCopy copy;
};

absl::Status CheckTensor(const Checkpoint& checkpoint,
                         const TensorSpec& expected,
                         const Checkpoint::Tensor* found) {
  if (found == nullptr) {
    return absl::NotFoundError(absl::StrCat("tensor \"", expected.name,
                                            "\" is not in checkpoint ",
                                            checkpoint.directory()));
  }
  if (found->spec.dtype != expected.dtype ||
      found->spec.shape != expected.shape) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", expected.name, "\": expected ", DTypeName(expected.dtype),
        " [", absl::StrJoin(expected.shape, ","), "], found ",
        DTypeName(found->spec.dtype), " [",
        absl::StrJoin(found->spec.shape, ","), "] in ",
        checkpoint.files()[found->file]->path()));
  }
  return absl::OkStatus();
}

// Parameters as byte ranges of the buffer, ascending.
absl::StatusOr<std::vector<Interval>> CheckParams(const RankLayout& layout,
                                                  int64_t buffer_bytes) {
  std::vector<Interval> ranges;
  for (const LocalParam& param : layout.params) {
    const std::optional<int64_t> elements = NumElements(param.shape);
    int64_t bytes = 0;
    if (!elements.has_value() ||
        __builtin_mul_overflow(*elements, ByteSize(param.dtype), &bytes) ||
        param.offset_bytes < 0 || param.offset_bytes > buffer_bytes ||
        bytes > buffer_bytes - param.offset_bytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "local parameter \"", param.name, "\" needs bytes [",
          param.offset_bytes, ",+", bytes, ") of a buffer of ", buffer_bytes));
    }
    ranges.push_back({param.offset_bytes, param.offset_bytes + bytes});
  }
  std::sort(ranges.begin(), ranges.end());
  return ranges;
}

absl::StatusOr<Job> MakeJob(const Checkpoint& checkpoint,
                            const ModelSpec& model, const RankLayout& layout,
                            const View& view) {
  if (view.tensor.value() < 0 ||
      static_cast<size_t>(view.tensor.value()) >= model.tensors.size() ||
      view.param < 0 ||
      static_cast<size_t>(view.param) >= layout.params.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("view of tensor number ", view.tensor.value(),
                     " in parameter number ", view.param, ": unknown"));
  }
  const TensorSpec& tensor = model.tensor(view.tensor);
  const Checkpoint::Tensor* found = checkpoint.Find(tensor.name);
  SLUICE_RETURN_IF_ERROR(CheckTensor(checkpoint, tensor, found));
  SLUICE_ASSIGN_OR_RETURN(
      const StridedPlace destination,
      PlaceInView(tensor, view.box, view,
                  layout.params[static_cast<size_t>(view.param)]));
  const DType held = layout.params[static_cast<size_t>(view.param)].dtype;
  const int64_t size = ByteSize(tensor.dtype);
  StridedPlace source;
  int64_t last = 0;
  source.strides_bytes = RowMajorStrides(tensor.shape);
  for (int d = 0; d < view.box.rank(); ++d) {
    int64_t& stride = source.strides_bytes[static_cast<size_t>(d)];
    stride *= size;
    source.offset_bytes += view.box.dim(d).lo * stride;
    last += (view.box.dim(d).size() - 1) * stride;
  }
  SLUICE_ASSIGN_OR_RETURN(
      BoxCopy copy,
      BoxCopy::Create({tensor.dtype, WireDType(tensor.dtype, held), held},
                      tensor.shape, view.box, source, destination));
  const absl::Span<const uint8_t> touched =
      copy.num_bytes() == 0
          ? absl::Span<const uint8_t>()
          : found->data.subspan(static_cast<size_t>(source.offset_bytes),
                                static_cast<size_t>(last + size));
  return Job{found, touched, std::move(copy)};
}

// Zeroes parameters that no view fills wholly, and what lies between them.
void ZeroUnfilled(const RankLayout& layout, const std::vector<Interval>& ranges,
                  absl::Span<uint8_t> buffer) {
  const auto zero = [&buffer](int64_t lo, int64_t hi) {
    if (hi > lo)
      std::memset(buffer.data() + lo, 0, static_cast<size_t>(hi - lo));
  };
  int64_t end = 0;
  for (const Interval& range : ranges) {
    zero(end, range.lo);
    end = std::max(end, range.hi);
  }
  zero(end, static_cast<int64_t>(buffer.size()));
  std::vector<int64_t> filled(layout.params.size(), 0);
  for (const View& view : layout.views) {
    filled[static_cast<size_t>(view.param)] += view.box.num_elements();
  }
  for (size_t p = 0; p < filled.size(); ++p) {
    const LocalParam& param = layout.params[p];
    const int64_t bytes = param.num_bytes();
    if (filled[p] * ByteSize(param.dtype) < bytes) {
      zero(param.offset_bytes, param.offset_bytes + bytes);
    }
  }
}

}  // namespace

absl::StatusOr<int64_t> LoadViews(const Checkpoint& checkpoint,
                                  const ModelSpec& model,
                                  const RankLayout& layout,
                                  absl::Span<uint8_t> buffer,
                                  const LoadOptions& options) {
  // 1. Everything is checked before anything is written.
  const auto buffer_bytes = static_cast<int64_t>(buffer.size());
  if (layout.buffer_bytes > buffer_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("buffer has ", buffer_bytes,
                                                   " bytes: the layout needs ",
                                                   layout.buffer_bytes));
  }
  buffer = buffer.subspan(0, static_cast<size_t>(layout.buffer_bytes));
  SLUICE_ASSIGN_OR_RETURN(const std::vector<Interval> ranges,
                          CheckParams(layout, layout.buffer_bytes));
  std::vector<Job> jobs;
  jobs.reserve(layout.views.size());
  int64_t total = 0;
  for (const View& view : layout.views) {
    SLUICE_ASSIGN_OR_RETURN(Job job, MakeJob(checkpoint, model, layout, view));
    total += job.copy.num_bytes();
    jobs.push_back(std::move(job));
  }
  for (const auto& file : checkpoint.files()) {
    SLUICE_RETURN_IF_ERROR(file->CheckUnchanged());
  }
  // 2. In the files' order, so that a disk reads forward.
  std::stable_sort(jobs.begin(), jobs.end(), [](const Job& a, const Job& b) {
    return std::make_pair(a.tensor->file, a.touched.data()) <
           std::make_pair(b.tensor->file, b.touched.data());
  });
  ZeroUnfilled(layout, ranges, buffer);
  // 3. Chunk by chunk.
  const int64_t chunk = std::max<int64_t>(options.chunk_bytes, 1);
  int64_t done = 0;
  for (const Job& job : jobs) {
    SafetensorsFile::ReadAhead(job.touched);
    for (int64_t lo = 0; lo < job.copy.num_bytes();) {
      const int64_t hi = std::min(lo + chunk, job.copy.num_bytes());
      CopyBoxRange(job.copy, lo, hi, job.tensor->data.data(), buffer.data(),
                   Stores::kStreaming, /*digest=*/nullptr);
      done += hi - lo;
      lo = hi;
      if (options.progress && done < total && !options.progress(done, total)) {
        return absl::CancelledError(absl::StrCat(
            "load was cancelled after ", done, " of ", total, " bytes"));
      }
    }
  }
  if (options.progress && !options.progress(total, total)) {
    return absl::CancelledError(
        absl::StrCat("load was cancelled after all ", total, " bytes"));
  }
  return total;
}

}  // namespace sluice::agent
