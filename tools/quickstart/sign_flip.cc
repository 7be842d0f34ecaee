#include "tools/quickstart/sign_flip.h"

#include "absl/strings/str_cat.h"
#include "common/box.h"
#include "common/dtype.h"

namespace sluice::quickstart {
namespace {

template <typename Element>
void FlipRun(std::byte* first, int64_t count, int64_t stride) {
  constexpr Element kSign = Element{1} << (8 * sizeof(Element) - 1);
  // Parameters are 256-byte aligned, so elements are aligned too.
  auto* elements = reinterpret_cast<Element*>(first);
  if (stride == 1) {
    for (int64_t i = 0; i < count; ++i) elements[i] ^= kSign;
    return;
  }
  for (int64_t i = 0; i < count; ++i) elements[i * stride] ^= kSign;
}

void Flip(std::byte* first, int64_t count, int64_t stride, int64_t bytes) {
  switch (bytes) {
    case 1:
      return FlipRun<uint8_t>(first, count, stride);
    case 2:
      return FlipRun<uint16_t>(first, count, stride);
    case 4:
      return FlipRun<uint32_t>(first, count, stride);
    default:
      return FlipRun<uint64_t>(first, count, stride);
  }
}

// All elements of a view from dimension `dim` on; `at` is the first of them.
void FlipFrom(const View& view, int dim, std::byte* at, int64_t bytes) {
  const int last = view.box.rank() - 1;
  if (last < 0) return Flip(at, 1, 1, bytes);
  const int64_t stride = view.strides[static_cast<size_t>(dim)];
  const int64_t count = view.box.dim(dim).size();
  if (dim == last) return Flip(at, count, stride, bytes);
  for (int64_t i = 0; i < count; ++i) {
    FlipFrom(view, dim + 1, at + i * stride * bytes, bytes);
  }
}

}  // namespace

absl::Status FlipSigns(const RankLayout& layout, std::byte* memory,
                       int64_t memory_bytes) {
  const auto place = [&](const View& view) -> const LocalParam& {
    return layout.params[static_cast<size_t>(view.param)];
  };
  for (const View& view : layout.views) {
    const LocalParam& param = place(view);
    const int64_t bytes = ByteSize(param.dtype);
    int64_t end = view.offset;
    for (int d = 0; d < view.box.rank(); ++d) {
      end +=
          (view.box.dim(d).size() - 1) * view.strides[static_cast<size_t>(d)];
    }
    if (!view.box.empty() &&
        (view.offset < 0 ||
         param.offset_bytes + (end + 1) * bytes > memory_bytes)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "parameter ", param.name, ": a view ends at byte ",
          param.offset_bytes + (end + 1) * bytes, " of ", memory_bytes));
    }
  }
  for (const View& view : layout.views) {
    if (view.box.empty()) continue;
    const LocalParam& param = place(view);
    const int64_t bytes = ByteSize(param.dtype);
    FlipFrom(view, 0, memory + param.offset_bytes + view.offset * bytes, bytes);
  }
  return absl::OkStatus();
}

}  // namespace sluice::quickstart
